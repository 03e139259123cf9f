"""The time, as the use cases are given it."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """The time, passed in so that tests can hold it."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""

    def timestamp(self) -> float:
        """The same moment as seconds since the epoch: what a hot path compares."""
