"""The guards of a holder. A test takes one out, and must then notice a stale answer."""

from __future__ import annotations

from typing import Final

from testkit.seeded_bugs import SEEDED_BUGS

GUARDS: Final = tuple(bug.holder_guard for bug in SEEDED_BUGS.values() if bug.holder_guard)
