"""Limits how often in a second a costly thing is done."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic


class PerSecond:
    """Admits so many a second, and counts those that it does not.

    Args:
        clock: seconds, from any start.

    Attributes:
        left_out: how many were not admitted since `take_left_out` was called.
    """

    __slots__ = ("_admitted", "_clock", "_limit", "_second", "left_out")

    def __init__(self, limit: int, clock: Callable[[], float] = monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._second = 0
        self._admitted = 0
        self.left_out = 0

    def admits(self) -> bool:
        """Whether one more is within the limit of this second."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._admitted = second, 0
        if self._admitted < self._limit:
            self._admitted += 1
            return True
        self.left_out += 1
        return False

    def take_left_out(self) -> int:
        """How many were not admitted since this was last called."""
        left_out, self.left_out = self.left_out, 0
        return left_out
