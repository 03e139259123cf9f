"""How keys were used in checks that were answered from memory, until the server is told.

A check does no more than count on its key's entry. From there the uses are collected now
and then, and whenever an entry goes. What was counted since the last report is lost if
the process is killed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_SECONDS_A_DAY: Final = 86_400
_MOST_KEYS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Use:
    """How a key was used, on the day of the last time.

    Attributes:
        last_used: seconds since the epoch.
        address: where the key was presented from then; empty for unknown.
    """

    key_id: str
    last_used: float
    address: str
    count: int


class Uses:
    """What is to be told. Not safe under threads: `Memory` has a lock.

    Attributes:
        total: how many were ever noted.
    """

    def __init__(self) -> None:
        self._noted: dict[tuple[str, int], Use] = {}
        self.total = 0

    def note(self, use: Use) -> None:
        """Notes it."""
        self.total += use.count
        self._add(use)

    def take(self) -> list[Use]:
        """All that is noted. It is not noted any more."""
        noted, self._noted = self._noted, {}
        return list(noted.values())

    def put_back(self, uses: Sequence[Use]) -> None:
        """Notes again what could not be told."""
        for use in uses:
            self._add(use)

    def _add(self, use: Use) -> None:
        place = (use.key_id, int(use.last_used // _SECONDS_A_DAY))
        known = self._noted.get(place)
        if known is not None:
            latest = max(use, known, key=lambda one: one.last_used)
            use = Use(use.key_id, latest.last_used, latest.address, use.count + known.count)
        elif len(self._noted) >= _MOST_KEYS:
            # The server has been away for long. What is left out is not reported.
            return
        self._noted[place] = use
