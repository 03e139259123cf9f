"""Uses of keys in checks that were answered from memory, until they are reported to the server.

A check only counts on its key's entry. The uses are collected from there before a report, and when
an entry is dropped. Uses since the last report are lost if the process is killed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_SECONDS_A_DAY: Final = 86_400
_MOST_KEYS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Use:
    """The uses of a key on one day.

    Attributes:
        last_used: the time of the last one, in seconds since the epoch.
        address: where the key was presented from then; empty for unknown.
    """

    key_id: str
    last_used: float
    address: str
    count: int


class Uses:
    """The uses that are to be reported. Not safe under threads: `Memory` has a lock.

    Attributes:
        total: how many uses were counted since the start.
    """

    def __init__(self) -> None:
        self._noted: dict[tuple[str, int], Use] = {}
        self.total = 0

    def note(self, use: Use) -> None:
        """Adds uses."""
        self.total += use.count
        self._add(use)

    def take(self) -> list[Use]:
        """Removes and returns all uses."""
        noted, self._noted = self._noted, {}
        return list(noted.values())

    def put_back(self, uses: Sequence[Use]) -> None:
        """Adds uses again that could not be reported."""
        for use in uses:
            self._add(use)

    def _add(self, use: Use) -> None:
        place = (use.key_id, int(use.last_used // _SECONDS_A_DAY))
        known = self._noted.get(place)
        if known is not None:
            latest = max(use, known, key=lambda one: one.last_used)
            use = Use(use.key_id, latest.last_used, latest.address, use.count + known.count)
        elif len(self._noted) >= _MOST_KEYS:
            # The server has been unreachable for long. These uses are not reported.
            return
        self._noted[place] = use
