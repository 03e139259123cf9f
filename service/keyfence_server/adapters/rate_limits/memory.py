"""The `RateCounter` port in this process's memory.

There is nothing to wait for, so a check is looked up and counted in one step that no
other check can come between. Windows that are over are forgotten when there are twice
as many as after the last time of forgetting: each costs a constant share of that, and
no timer walks over the others meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from keyfence_server.application.ports import Clock
from keyfence_server.application.rate_limits import Window
from keyfence_server.domain.limits import Limit

_FEWEST_TO_SWEEP: Final = 1_024


class MemoryCounter:
    """Counts for as long as the process lives."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # A list of what is used and when that ends, so that counting makes no garbage.
        self._windows: dict[str, list[float]] = {}
        self._sweep_at = _FEWEST_TO_SWEEP

    def __len__(self) -> int:
        return len(self._windows)

    async def take(self, limits: Sequence[Limit], cost: int) -> tuple[int | None, list[Window]]:
        now = self._clock.timestamp()
        if not cost:
            return None, [self._seen(limit, now) for limit in limits]
        current = [self._current(limit, now) for limit in limits]
        for index, (limit, window) in enumerate(zip(limits, current, strict=True)):
            if (window[0] if window else 0) + cost > limit.rate.requests:
                return index, [self._seen(one, now) for one in limits]
        for limit, window in zip(limits, current, strict=True):
            if window is None:
                self._windows[limit.name] = [cost, now + limit.rate.seconds]
            else:
                window[0] += cost
        if len(self._windows) >= self._sweep_at:
            self._sweep(now)
        return None, [self._seen(limit, now) for limit in limits]

    async def close(self) -> None:
        self._windows.clear()

    def _current(self, limit: Limit, now: float) -> list[float] | None:
        window = self._windows.get(limit.name)
        if window is None or window[1] <= now:
            return None
        # A clock that was put back must not make a window longer than it is.
        window[1] = min(window[1], now + limit.rate.seconds)
        return window

    def _seen(self, limit: Limit, now: float) -> Window:
        window = self._current(limit, now)
        return Window(int(window[0]), window[1]) if window else Window(0, now)

    def _sweep(self, now: float) -> None:
        self._windows = {name: one for name, one in self._windows.items() if one[1] > now}
        self._sweep_at = max(_FEWEST_TO_SWEEP, 2 * len(self._windows))
