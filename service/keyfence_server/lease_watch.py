"""Reports to logs, metrics and health whether the process has a lease.

Health follows the lease with a delay in both directions: a single late renewal must not move all
clients to other servers, and a lease that has just come back may be lost again. A process that
answers without a lease (`KEYFENCE_STALE_IF_ERROR`) reports that it serves; logs, metrics and the
answers themselves say that they may be stale.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from keyfence_server.coherence.ports import BootClock
from keyfence_server.coherence.terms import LeaseTerms

_LOOKS_PER_RENEWAL: Final = 4
_WARNING_SECONDS: Final = 10.0

_log = structlog.get_logger("keyfence")


class LeaseWatch:
    """Checks the lease regularly, and reports changes to the logs, the metrics and health.

    Health says that the process does not serve when there has been no lease for a whole L, and that
    it serves when there has been one for a third of L. The first lease after the start counts at
    once.

    Args:
        is_live: whether there is a lease.
        may_be_stale: whether checks may be answered without a lease now.
        stale_answers: how many checks were answered without a lease so far.
        is_fit: whether there is no problem that an operator must solve.
        set_serving: tells health whether the process serves.
        set_lease: tells health whether there is a lease.

    Attributes:
        losses: how often the lease has run out.
        looked_at: when it looked last, by its clock; a stalled event loop does not look.
        seconds_without: for how long there was none, in all, since the first one; up to the
            last time that it came back.
    """

    def __init__(
        self,
        *,
        is_live: Callable[[], bool],
        may_be_stale: Callable[[], bool],
        stale_answers: Callable[[], int],
        is_fit: Callable[[], bool],
        set_serving: Callable[[bool], None],
        set_lease: Callable[[bool], None],
        terms: LeaseTerms,
        clock: BootClock,
    ) -> None:
        self._is_live = is_live
        self._may_be_stale = may_be_stale
        self._stale_answers = stale_answers
        self._is_fit = is_fit
        self._set_serving = set_serving
        self._set_lease = set_lease
        self._terms = terms
        self._clock = clock
        self._since = float("-inf")
        self._was_live = False
        self._serves_since = float("-inf")
        self._serves = False
        self._says_serving = False
        self._has_ended = False
        self._warned_at = float("-inf")
        self._warned_of = 0
        self.losses = 0
        self.looked_at = clock.now()
        self.seconds_without = 0.0

    def end(self) -> None:
        """Stops reporting to health: the process is about to stop."""
        self._has_ended = True

    async def run(self) -> None:
        """Checks the lease until it is cancelled."""
        while True:
            self.look()
            pause = self._terms.renewal_interval / _LOOKS_PER_RENEWAL
            await self._clock.sleep_until(self._clock.now() + pause)

    def look(self) -> None:
        """Checks the lease once."""
        now = self._clock.now()
        self.looked_at = now
        live = self._is_live()
        if live is not self._was_live:
            self._turn(live, now)
        self._warn(now)
        serves = (live or self._may_be_stale()) and self._is_fit()
        if serves is not self._serves:
            self._serves = serves
            self._serves_since = now
        patience = self._terms.renewal_interval if serves else self._terms.length
        if serves is not self._says_serving and now - self._serves_since >= patience:
            self._say(serves)

    def _turn(self, live: bool, now: float) -> None:
        if not live:
            self.losses += 1
            if self._may_be_stale():
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
        self._set_lease(live)
        self._was_live = live
        self._since = now

    def _warn(self, now: float) -> None:
        answers = self._stale_answers()
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
            self._set_serving(serving)
