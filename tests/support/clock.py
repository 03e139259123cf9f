"""A clock that stands still until a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


class FrozenClock:
    """Keeps the `Clock` port. Time passes by `advance` and `set` alone."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now

    def now(self) -> datetime:
        """The moment at which the clock stands."""
        return self._now

    def timestamp(self) -> float:
        """The same moment as seconds since the epoch."""
        return self._now.timestamp()

    def advance(self, by: timedelta) -> datetime:
        """Moves the clock, backwards too, and tells the new time."""
        return self.set(self._now + by)

    def set(self, now: datetime) -> datetime:
        """Puts the clock to a moment, and tells it."""
        self._now = now
        return now
