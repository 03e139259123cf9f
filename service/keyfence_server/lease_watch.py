"""Reports to logs, metrics and health whether the process has a lease.

Health follows the lease with a delay in both directions: a single late renewal must not move all
clients to other servers, and a lease that has just come back may be lost again. A process that
answers without a lease (`KEYFENCE_STALE_IF_ERROR`) reports that it serves; logs, metrics and the
answers themselves say that they may be stale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from keyfence_server.coherence.ports import BootClock
from keyfence_server.coherence.terms import LeaseTerms

_LOOKS_PER_RENEWAL: Final = 4
_WARNING_SECONDS: Final = 10.0
_NEVER: Final = float("-inf")

_log = structlog.get_logger("keyfence")


@dataclass(eq=False, kw_only=True)
class LeaseWatch:
    """Checks the lease regularly, and reports changes to the logs, the metrics and health.

    Health says that the process does not serve when there has been no lease for a whole L, and that
    it serves when there has been one for a third of L. The first lease after the start counts at
    once.

    Attributes:
        is_live: whether there is a lease.
        may_be_stale: whether checks may be answered without a lease now.
        stale_answers: how many checks were answered without a lease so far.
        is_fit: whether there is no problem that an operator must solve.
        set_serving: tells health whether the process serves.
        set_lease: tells health whether there is a lease.
        losses: how often the lease has run out.
        looked_at: when it looked last, by its clock; a stalled event loop does not look.
        seconds_without: for how long there was none, in all, since the first one; up to the
            last time that it came back.
    """

    is_live: Callable[[], bool]
    may_be_stale: Callable[[], bool]
    stale_answers: Callable[[], int]
    is_fit: Callable[[], bool]
    set_serving: Callable[[bool], None]
    set_lease: Callable[[bool], None]
    terms: LeaseTerms
    clock: BootClock
    losses: int = field(init=False, default=0)
    looked_at: float = field(init=False)
    seconds_without: float = field(init=False, default=0.0)
    _since: float = field(init=False, default=_NEVER)
    _was_live: bool = field(init=False, default=False)
    _serves_since: float = field(init=False, default=_NEVER)
    _serves: bool = field(init=False, default=False)
    _says_serving: bool = field(init=False, default=False)
    _has_ended: bool = field(init=False, default=False)
    _warned_at: float = field(init=False, default=_NEVER)
    _warned_of: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.looked_at = self.clock.now()

    def end(self) -> None:
        """Stops reporting to health: the process is about to stop."""
        self._has_ended = True

    async def run(self) -> None:
        """Checks the lease until it is cancelled."""
        while True:
            self.look()
            pause = self.terms.renewal_interval / _LOOKS_PER_RENEWAL
            await self.clock.sleep_until(self.clock.now() + pause)

    def look(self) -> None:
        """Checks the lease once."""
        now = self.clock.now()
        self.looked_at = now
        live = self.is_live()
        if live is not self._was_live:
            self._turn(live, now)
        self._warn(now)
        serves = (live or self.may_be_stale()) and self.is_fit()
        if serves is not self._serves:
            self._serves = serves
            self._serves_since = now
        patience = self.terms.renewal_interval if serves else self.terms.length
        if serves is not self._says_serving and now - self._serves_since >= patience:
            self._say(serves)

    def _turn(self, live: bool, now: float) -> None:
        if not live:
            self.losses += 1
            if self.may_be_stale():
                _log.error(
                    "lease_lost",
                    consequence="checks are answered from memory, as KEYFENCE_STALE_IF_ERROR says",
                )
            else:
                _log.warning(
                    "lease_lost", consequence="nothing is answered from memory until it is back"
                )
        elif self.losses:
            self.seconds_without += now - self._since
            _log.info("lease_regained", seconds_without=round(now - self._since, 1))
        else:
            # Health has not reported anything yet that this could contradict.
            self._say(live)
            _log.info("lease_granted")
        self.set_lease(live)
        self._was_live = live
        self._since = now

    def _warn(self, now: float) -> None:
        answers = self.stale_answers()
        if answers > self._warned_of and now - self._warned_at >= _WARNING_SECONDS:
            _log.error(
                "stale_answers",
                consequence="keys that were revoked since are accepted (KEYFENCE_STALE_IF_ERROR)",
                answers=answers - self._warned_of,
                seconds_without=round(now - self._since, 1),
            )
            self._warned_of = answers
            self._warned_at = now

    def _say(self, serving: bool) -> None:
        self._says_serving = serving
        if not self._has_ended:
            self.set_serving(serving)
