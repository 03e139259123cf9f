"""Rate limits: so many requests in so long a time, and where one stands.

What a limit is and which one a key has is known here; counting is not, since that
takes a memory that several servers may have to share.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Final

MAX_REQUESTS: Final = 1_000_000_000
MAX_WINDOW: Final = timedelta(days=31)
MAX_COST: Final = 1_000_000
DEFAULT_COST: Final = 1

_RATE: Final = re.compile(
    r"([0-9]{1,10}) ?/ ?(?:([1-9][0-9]{0,6}) ?)?(second|minute|hour|day|s|m|h|d)s?"
)
_SIZES: Final = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
_UNITS: Final = _SIZES | {unit[0]: size for unit, size in _SIZES.items()}


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in so long a time: whole seconds."""

    requests: int
    window: timedelta

    @property
    def seconds(self) -> int:
        """The window's length."""
        return int(self.window.total_seconds())

    def is_within(self, other: Rate) -> bool:
        """Whether it allows no more than the other one, in any time as long as the
        other's window."""
        windows = -(-other.seconds // self.seconds)
        return self.requests * windows <= other.requests

    def __str__(self) -> str:
        unit, size = next(one for one in reversed(_SIZES.items()) if self.seconds % one[1] == 0)
        count = self.seconds // size
        return f"{self.requests}/{unit}" if count == 1 else f"{self.requests}/{count}{unit[0]}"


def parse_rate(text: str) -> Rate | None:
    """Reads a rate like "60/minute", "1000/hour" or "100/10s"; None if it is not one."""
    found = _RATE.fullmatch(text)
    if found is None:
        return None
    seconds = int(found[2] or 1) * _UNITS[found[3]]
    return Rate(int(found[1]), timedelta(seconds=seconds))


def rate_problem(rate: Rate) -> str | None:
    """What is wrong with a rate; None for nothing."""
    if not 1 <= rate.requests <= MAX_REQUESTS:
        return f"a limit allows 1 to {MAX_REQUESTS} requests"
    whole = rate.window == timedelta(seconds=rate.seconds)
    if not whole or not timedelta(seconds=1) <= rate.window <= MAX_WINDOW:
        return f"a limit's window is whole seconds, from 1 second to {MAX_WINDOW.days} days"
    return None


class Subject(Enum):
    """Whose uses count together. The names are those of `keyfence.v1.RateLimitSubject`."""

    KEY = "KEY"
    ACCOUNT = "ACCOUNT"


class Count(Enum):
    """What a limit's numbers rest on. The names are those of `keyfence.v1.RateLimitCount`."""

    WHOLE = "WHOLE"
    LOCAL = "LOCAL"
    NONE = "NONE"


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that a key is under.

    Attributes:
        name: of the counter; the same for all whose uses count together.
    """

    subject: Subject
    name: str
    rate: Rate


@dataclass(frozen=True, slots=True)
class RateLimitStatus:
    """Where a limit stands after a check. See `keyfence.v1.RateLimitStatus`.

    Attributes:
        reset_at: seconds since the epoch, whole: what a header would say.
        retry_after: seconds, whole, at least 1; None unless the check was stopped, or if
            it can never pass.
    """

    limit: Limit
    remaining: int
    reset_at: int
    retry_after: int | None = None
    count: Count = Count.WHOLE
