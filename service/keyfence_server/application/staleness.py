"""Whether the call under way was answered from a memory that nobody vouches for.

That happens only where an operator has asked for it (`--stale-if-error`). Whoever answers
so notes it here, and whoever speaks to the caller looks, since every verdict that may be
out of date has to say so. It belongs to the call: each runs in a context of its own.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

_noted: Final[ContextVar[bool]] = ContextVar("stale", default=False)


def note() -> None:
    """Says that a part of this call's answer may be out of date."""
    _noted.set(True)


def is_noted() -> bool:
    """Whether a part of this call's answer may be out of date."""
    return _noted.get()
