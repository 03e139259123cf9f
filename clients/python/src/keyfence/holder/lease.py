"""A holder's right to answer from memory: how long it lasts, and what it depends on.

This is the holder's side of the lease (rules I2 and I6 of docs/fence.md), and the only
copy of it: server processes, sidecars and SDK caches all keep one of these. It does no
I/O and reads no clock. Every time that goes in is a reading, in seconds, of one clock
that goes on while the machine sleeps (`CLOCK_BOOTTIME`), and must be taken when the
docstring says so: safety rests on that order.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_MAX_PENDING: Final = 16
_MAX_GRANTS: Final = 16


@dataclass(frozen=True, slots=True)
class _Grant:
    until: float
    head: int


@dataclass(frozen=True, slots=True)
class _Request:
    sent: float
    applied: int


class HolderLease:
    """What a holder has been granted, and how far it has applied changes.

    A grant counts only once everything up to the head that came with it is applied. Until
    then an earlier grant goes on counting, for as long as that one was given.

    Attributes:
        until: when the right to answer from memory ends. To be read only, and compared with the
            clock at every check. A plain attribute, because a property costs a check more.
        renewals: how many requests were granted.
        failed_renewals: how many were given up without an answer.
        renewed_at: when the last one that was granted was sent; minus infinity for never.
    """

    __slots__ = (
        "_applied",
        "_epoch",
        "_grants",
        "_next_nonce",
        "_pending",
        "failed_renewals",
        "renewals",
        "renewed_at",
        "until",
    )

    def __init__(self) -> None:
        self.renewals = 0
        self.failed_renewals = 0
        self.renewed_at = float("-inf")
        self._next_nonce = 1
        self._pending: OrderedDict[int, _Request] = OrderedDict()
        self._grants: list[_Grant] = []
        self._applied: int | None = None
        self._epoch: str | None = None
        self.until = float("-inf")

    @property
    def applied(self) -> int:
        """The revision up to which every change is applied; 0 before the first grant."""
        return self._applied or 0

    @property
    def has_started(self) -> bool:
        """Whether a first grant has said from which revision on changes are followed."""
        return self._applied is not None

    @property
    def epoch(self) -> str | None:
        """Revisions of which epoch are followed; None before the first grant."""
        return self._epoch

    def is_live(self, now: float) -> bool:
        """Whether the holder may answer from memory.

        Args:
            now: read for this very answer, after the question came.
        """
        return now < self.until

    def request(self, now: float) -> int:
        """Begins a renewal.

        Args:
            now: read *before* the renewal is sent. A grant can lie in a buffer for any
                time, so it is counted from here and not from when it arrives.

        Returns:
            The nonce to send.
        """
        nonce = self._next_nonce
        self._next_nonce += 1
        self._pending[nonce] = _Request(now, self.applied)
        if len(self._pending) > _MAX_PENDING:
            self._pending.popitem(last=False)
            self.failed_renewals += 1
        return nonce

    def grant(
        self,
        nonce: int,
        ttl: float,
        head: int,
        epoch: str = "",
        forget: Callable[[], None] = lambda: None,
    ) -> bool:
        """Adds a grant. A grant with an unknown or used nonce is ignored.

        Args:
            ttl: in seconds, from when the renewal was sent.
            head: the grantor's revision when it granted.
            epoch: revisions of different epochs cannot be compared.
            forget: called before anything can be answered under the grant, if the holder must
                forget everything that it remembers. A holder whose checks come from other threads
                must forget here, and not after this has returned.

        Returns:
            Whether the holder must forget everything that it remembers, now, before it
            answers anything: this is the first grant, or one of another epoch, or of a
            head that lies behind what had been applied when it was asked for. What was
            applied since says nothing: the grant may have been overtaken by a change.
        """
        request = self._pending.pop(nonce, None)
        if request is None:
            return False
        self.renewals += 1
        self.renewed_at = max(self.renewed_at, request.sent)
        must_forget = self._applied is None or epoch != self._epoch or head < request.applied
        if must_forget:
            # With an empty memory every change up to the head is as good as applied.
            self._grants.clear()
            self.until = float("-inf")
            self._applied = head
            self._epoch = epoch
            forget()
        self._grants.append(_Grant(request.sent + ttl, head))
        self._extend_until()
        return must_forget

    def advance_to(self, revision: int) -> None:
        """Records that every change up to a revision is applied. Call it *after* applying them.

        The caller makes sure that there is no gap.
        """
        if self._applied is not None and revision > self._applied:
            self._applied = revision
            self._extend_until()

    def abandon(self) -> None:
        """Gives up every grant, those that are asked for included. The holder must forget
        everything that it remembers; the next grant starts it anew."""
        self.failed_renewals += len(self._pending)
        self._pending.clear()
        self._grants.clear()
        self._applied = None
        self._epoch = None
        self.until = float("-inf")

    def _extend_until(self) -> None:
        applied = self._applied
        if applied is None:
            return
        counting = [grant.until for grant in self._grants if grant.head <= applied]
        if counting:
            self.until = max(self.until, *counting)
        self._grants = [grant for grant in self._grants if grant.head > applied][-_MAX_GRANTS:]
