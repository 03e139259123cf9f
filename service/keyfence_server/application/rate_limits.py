"""Rate limits: counts checks, and stops those for which nothing is left.

A check is counted once, by its cost, against every limit that its key is under, and
only if it fits all of them: what is stopped uses up nothing. Where several servers
share a counter, it may be away; what happens then is a setting, and it shows in the
answer, in the log and in the metrics, whichever it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from typing import Final, Protocol

import structlog

from keyfence_server.application.ports import Clock
from keyfence_server.domain.errors import DomainError
from keyfence_server.domain.limits import Count, Limit, RateLimitStatus

_SECONDS_UNTIL_TRIED_AGAIN: Final = 1.0

_log = structlog.get_logger("keyfence.rate_limits")


class CounterUnavailable(Exception):
    """The counter cannot be reached, or does not answer in time. It may have counted."""


class RateLimitsUnavailable(DomainError):
    """The shared counter is away, and nothing is to pass without it."""

    reason = "RATE_LIMITS_UNAVAILABLE"


class OnFailure(StrEnum):
    """What becomes of checks of limited keys while the shared counter is away.

    `LOCAL`: each server counts by itself. `ALLOW`: nothing is counted, everything passes.
    `DENY`: such a check fails, with an error and not with a verdict.
    """

    LOCAL = "local"
    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Window:
    """How much of a limit is used.

    Attributes:
        ends_at: when nothing of it is, in seconds since the epoch; now, if nothing is.
    """

    used: int
    ends_at: float


class RateCounter(Protocol):
    """Remembers what was used of limits, each in a window that begins with its first use
    and ends a limit's window later."""

    async def take(self, limits: Sequence[Limit], cost: int) -> tuple[int | None, list[Window]]:
        """Uses up `cost` of each, if each has as much left, and otherwise nothing. A cost of 0 only
        looks.

        A limit's name stands for its window, and its rate's requests for what it has.

        Returns:
            The index of a limit that had too little left, or None; and how much of each
            is used then.

        Raises:
            CounterUnavailable: it may have counted or not.
        """

    async def close(self) -> None:
        """Lets go of what it holds."""


@dataclass(slots=True)
class RateLimitStats:
    """What became of checks while the shared counter was away. Read by the metrics.

    Attributes:
        failures: how often the shared counter failed when it was asked.
        without_counter: checks that were decided without it.
        is_away: whether it is away now.
    """

    failures: int = 0
    without_counter: int = 0
    is_away: bool = False


class RateLimits:
    """Decides whether checks are within their keys' limits.

    Args:
        local: this process's own counter.
        shared: the one of all processes, if there is one.
        is_alone: whether every check comes to this process, so that its own counter has
            all of them.
    """

    def __init__(
        self,
        clock: Clock,
        local: RateCounter,
        shared: RateCounter | None = None,
        on_failure: OnFailure = OnFailure.LOCAL,
        *,
        is_alone: bool,
    ) -> None:
        self._clock = clock
        self._local = local
        self._shared = shared
        self._on_failure = on_failure
        self._own_count = Count.WHOLE if is_alone and shared is None else Count.LOCAL
        self._tried_again_at = 0.0
        self.stats = RateLimitStats()

    async def take(self, limits: Sequence[Limit], cost: int) -> tuple[bool, RateLimitStatus]:
        """Counts a check, if it passes, and tells whether it does.

        Args:
            limits: those that the key is under, at least one.
            cost: 0 counts nothing and always passes: it tells where the limits stand.

        Raises:
            RateLimitsUnavailable: nothing was decided.
        """
        if self._shared is not None and self._may_try():
            try:
                stopped_by, windows = await self._shared.take(limits, cost)
            except CounterUnavailable as error:
                self._note_failure(error)
            else:
                if self.stats.is_away:
                    self.stats.is_away = False
                    _log.warning("rate_limit_counter_available")
                return self._status(limits, cost, stopped_by, windows, Count.WHOLE)
        if self._shared is not None:
            self.stats.without_counter += 1
            if self._on_failure is not OnFailure.LOCAL:
                return True, self._uncounted(limits)
        stopped_by, windows = await self._local.take(limits, cost)
        return self._status(limits, cost, stopped_by, windows, self._own_count)

    def _uncounted(self, limits: Sequence[Limit]) -> RateLimitStatus:
        if self._on_failure is OnFailure.DENY:
            raise RateLimitsUnavailable(
                "the counter of rate limits cannot be reached, and this server is set to answer "
                "no check of a limited key without it; try again"
            )
        limit = min(limits, key=lambda one: one.rate.requests)
        now = ceil(self._clock.timestamp())
        return RateLimitStatus(limit, limit.rate.requests, now, count=Count.NONE)

    def _status(
        self,
        limits: Sequence[Limit],
        cost: int,
        stopped_by: int | None,
        windows: Sequence[Window],
        count: Count,
    ) -> tuple[bool, RateLimitStatus]:
        if stopped_by is None:
            # The one that leaves the least is the one that a caller has to heed.
            pairs = zip(limits, windows, strict=True)
            left = [limit.rate.requests - window.used for limit, window in pairs]
            index = left.index(min(left))
        else:
            index = stopped_by
        limit, window = limits[index], windows[index]
        retry_after = None
        if stopped_by is not None and cost <= limit.rate.requests:
            retry_after = max(1, ceil(window.ends_at - self._clock.timestamp()))
        status = RateLimitStatus(
            limit,
            max(0, limit.rate.requests - window.used),
            ceil(window.ends_at),
            retry_after,
            count,
        )
        return stopped_by is None, status

    def _may_try(self) -> bool:
        """Whether to ask the shared counter. While it is away, one check a second does,
        so that the others need not wait for it."""
        if not self.stats.is_away:
            return True
        now = self._clock.timestamp()
        # A clock that was put back must not keep us from asking.
        if now < self._tried_again_at <= now + _SECONDS_UNTIL_TRIED_AGAIN:
            return False
        self._tried_again_at = now + _SECONDS_UNTIL_TRIED_AGAIN
        return True

    def _note_failure(self, error: CounterUnavailable) -> None:
        self.stats.failures += 1
        self._tried_again_at = self._clock.timestamp() + _SECONDS_UNTIL_TRIED_AGAIN
        if not self.stats.is_away:
            self.stats.is_away = True
            _log.error(
                "rate_limit_counter_unavailable", cause=str(error), meanwhile=self._on_failure.value
            )
