"""The grantor's side: who holds a lease from here, and what they have acknowledged.

A server process grants leases to sidecars and SDKs, a sidecar to the SDKs behind it.
Whoever grants promises upstream: "I acknowledge R" means that nobody downstream of me
answers from before R any more (rule I3), because each has acknowledged it, or its lease
has run out by my clock, the drift of both our clocks allowed for.

No I/O and no clock in here: times are readings, in seconds, of the grantor's own
`CLOCK_BOOTTIME`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from keyfence_server.coherence.terms import LeaseTerms

NEVER_GRANTED: Final = float("-inf")
NOTHING_ACKNOWLEDGED: Final = -1


class Downstream:
    """One holder, as its grantor knows it.

    Attributes:
        acknowledged: the revision up to which the holder has said that it, and all that
            are downstream of it, have applied every change.
        lease_ends: when its lease has run out for certain, by the grantor's clock.
        renewed_at: when it last asked for a lease.
        former: what the grantor knows it as from before, on streams that have ended or
            are about to. Leases of that time may be alive: not the holder's own, which it
            gave up, but those that it had granted to others in its turn.
    """

    __slots__ = ("acknowledged", "former", "holder_id", "lease_ends", "renewed_at")

    def __init__(
        self, holder_id: str, acknowledged: int, former: tuple[Downstream, ...] = ()
    ) -> None:
        self.holder_id: Final = holder_id
        self.former = former
        self.acknowledged = acknowledged
        self.lease_ends = NEVER_GRANTED
        self.renewed_at = NEVER_GRANTED


@dataclass(frozen=True, slots=True)
class Granted:
    """A lease to send.

    Attributes:
        ttl: in seconds.
        head: everything up to there is to be applied first.
        renew_after: when the holder should renew, in seconds from its last renewal.
        drift: what the holder, too, must allow clocks to drift by.
    """

    ttl: float
    head: int
    renew_after: float
    drift: float


class Grantor:
    """Grants leases, and keeps count of what is acknowledged."""

    def __init__(self, terms: LeaseTerms) -> None:
        self._terms = terms
        # In order, so that what follows from it can be told again.
        self._holders: dict[Downstream, None] = {}
        self._gone: dict[Downstream, None] = {}
        self._head = 0

    @property
    def head(self) -> int:
        """The revision up to which the grantor itself has applied every change."""
        return self._head

    @property
    def holders(self) -> tuple[Downstream, ...]:
        """The holders that are connected."""
        return tuple(self._holders)

    def advance(self, head: int) -> None:
        """Says that the grantor has applied everything up to `head`, and has put the
        changes on the way to every connected holder."""
        self._head = max(self._head, head)

    def join(self, holder_id: str) -> Downstream:
        """Takes in a holder that remembers nothing, so that nothing is owed by it yet, save
        what its former selves owe."""
        known = (*self._holders, *self._gone)
        former = tuple(one for one in known if one.holder_id == holder_id)
        for one in former:
            one.former = ()
        holder = Downstream(holder_id, self._head, former)
        self._holders[holder] = None
        return holder

    def acknowledge(self, holder: Downstream, applied: int) -> bool:
        """Takes note of what a holder says that it, and everyone downstream of it, has
        applied. Never backwards, and never beyond what there is: a holder cannot know of
        more than it was told. Says whether that was news."""
        applied = min(applied, self._head)
        moved = False
        for one in (holder, *holder.former):
            if one.acknowledged < applied:
                one.acknowledged = applied
                moved = True
        return moved

    def renew(self, holder: Downstream, now: float, remaining: float) -> Granted:
        """Grants a lease.

        Args:
            now: read before the lease is sent.
            remaining: how long the grantor's own lease lasts from `now` on, in seconds;
                infinity if it needs none.

        Returns:
            The lease; of length nothing if the grantor has none to give.
        """
        ttl = self._terms.nested(remaining)
        holder.renewed_at = now
        if ttl:
            ends = now + self._terms.margin(ttl) + self._terms.slack
            holder.lease_ends = max(holder.lease_ends, ends)
        return Granted(ttl, self._head, ttl / self._terms.renewals, self._terms.drift)

    def allow_for(self, drift: float) -> None:
        """From now on, allows clocks to drift so far at least: what was granted from here is
        waited for by others, who do."""
        self._terms = self._terms.allowing_for(drift)

    def restart(self, head: int) -> None:
        """Goes on from a head that cannot be compared with the one before. What earlier
        holders acknowledged says nothing about it, so each is waited out."""
        for holder in (*self._holders, *self._gone):
            holder.acknowledged = NOTHING_ACKNOWLEDGED
        self._head = head

    def leave(self, holder: Downstream) -> None:
        """The stream is gone. The holder may still answer until its lease runs out."""
        if holder in self._holders:
            del self._holders[holder]
            self._gone[holder] = None

    def settled(self, now: float) -> int:
        """The revision that the grantor may acknowledge upstream: nobody downstream can
        still answer from before it (rule I3)."""
        self._gone = {one: None for one in self._gone if now < one.lease_ends}
        owed = [
            holder.acknowledged
            for holder in (*self._holders, *self._gone)
            if now < holder.lease_ends
        ]
        return min([self._head, *owed])

    def owing(self, revision: int, now: float) -> tuple[Downstream, ...]:
        """Those who have not acknowledged the revision, and may still answer."""
        return tuple(
            holder
            for holder in (*self._holders, *self._gone)
            if holder.acknowledged < revision and now < holder.lease_ends
        )

    def settles_by(self, revision: int) -> float:
        """When everyone who has not acknowledged the revision will have lost their lease,
        by the grantor's clock, if no lease is granted in the meantime."""
        return max(
            (
                holder.lease_ends
                for holder in (*self._holders, *self._gone)
                if holder.acknowledged < revision
            ),
            default=NEVER_GRANTED,
        )
