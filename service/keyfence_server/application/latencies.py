"""How long something took, counted in buckets.

As in `rpc.stats`, counting must cost next to nothing: nothing here locks, allocates or knows of a
metrics library.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

LATENCY_BOUNDS: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
"""Upper bounds of the latency buckets, in seconds."""


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
