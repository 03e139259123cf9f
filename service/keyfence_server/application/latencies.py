"""How long something took, counted in buckets.

As in `rpc.stats`, counting must cost next to nothing: nothing here locks, allocates or knows of a
metrics library.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

LATENCY_BOUNDS: Final = (
    *(step / part for part in (10_000, 1_000, 100, 10, 1) for step in (1, 2.5, 5)),
    10.0,
)
"""Upper bounds of the latency buckets, in seconds: from 0.1 milliseconds to 10 seconds."""


class Latencies:
    """The durations of one kind of work.

    Attributes:
        buckets: how many fell into each bucket, the last one without a bound.
        total_seconds: of all of them.
    """

    __slots__ = ("buckets", "total_seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(LATENCY_BOUNDS) + 1)
        self.total_seconds = 0.0

    def add(self, seconds: float) -> None:
        """Counts one duration."""
        self.buckets[bisect_left(LATENCY_BOUNDS, seconds)] += 1
        self.total_seconds += seconds
