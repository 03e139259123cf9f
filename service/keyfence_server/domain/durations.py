"""Durations as people write them: "30s", "15m", "12h", "90d"."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

LONGEST_DURATION: Final = timedelta(days=999_999_999)

_DURATION: Final = re.compile(r"([0-9]{1,100})(s|m|h|d)")
_UNITS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def parse_duration(text: str) -> timedelta | None:
    """Reads a duration; None if the text is not one.

    A duration beyond `LONGEST_DURATION` is read as that, so that the caller's own upper
    limit refuses it.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        return None
    seconds = int(found[1]) * _UNITS[found[2]]
    return timedelta(seconds=min(seconds, LONGEST_DURATION.total_seconds()))


def format_duration(duration: timedelta) -> str:
    """Writes a duration of whole seconds in the largest unit that keeps it whole."""
    seconds = int(duration.total_seconds())
    unit, size = next((u, s) for u, s in _UNITS.items() if seconds % s == 0)
    return f"{seconds // size}{unit}"
