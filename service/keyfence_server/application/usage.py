"""How keys are used: noted in memory, and written to the store at intervals.

Noting costs a check one look-up in a dictionary. A process that is killed loses the
notes since the last write, and nothing else.

Other processes report uses, too. A report is believed only for recent days and within plausible
counts, and every sum saturates, so no report can make a value that the store cannot keep.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Final

from keyfence_server.application.ports import MAX_USE_COUNT, Clock, KeyUse, UseToAdd
from keyfence_server.domain.keys import KeyId

REPORTED_DAYS: Final = 7
"""How many days before today a report can be about. A holder whose server was away for
longer loses what it noted before."""
MAX_REPORTED_COUNT: Final = 1_000_000_000
"""The most uses of one key on one day in a report: far more than a holder can answer
between two reports."""

_SECONDS_A_DAY: Final = 86_400
_DAY_0: Final = date(1970, 1, 1).toordinal()


class Uses:
    """The uses of keys that are not written to the store yet.

    Args:
        most_keys: of how many keys and days to keep notes. Uses of further keys are not
            counted until the notes are written.

    Attributes:
        left_out: how many uses were not noted, because there were notes of too many keys.
    """

    def __init__(self, clock: Clock, *, most_keys: int = 100_000) -> None:
        self._clock = clock
        self._most_keys = most_keys
        self._counts: dict[tuple[KeyId, int], int] = {}
        self._last: dict[KeyId, tuple[float, str]] = {}
        # What is being written, in parts.
        self._due: dict[tuple[KeyId, int], int] = {}
        self._due_last: dict[KeyId, tuple[float, str]] = {}
        self.left_out = 0

    def __len__(self) -> int:
        return len(self._counts) + len(self._due)

    def note(self, key_id: KeyId, address: str) -> None:
        """Notes that a key was used now.

        Args:
            address: where it was presented from; empty for unknown.
        """
        now = self._clock.timestamp()
        place = (key_id, int(now // _SECONDS_A_DAY))
        count = self._counts.get(place)
        if count is None:
            if len(self._counts) >= self._most_keys:
                self.left_out += 1
                return
            count = 0
        self._counts[place] = count + 1
        self._last[key_id] = (now, address)

    def note_call(self, key_id: KeyId, address: str) -> None:
        """Notes that a key was the credential of a call to Keyfence itself.

        Between two writes the first address counts.
        """
        known = self._last.get(key_id)
        self.note(key_id, known[1] if known is not None else address)

    def take(self, most: int) -> list[UseToAdd]:
        """At most so many of the notes, to be written. They are not noted any more."""
        if not self._due:
            self._due, self._due_last = self._counts, self._last
            self._counts, self._last = {}, {}
        taken: list[UseToAdd] = []
        while self._due and len(taken) < most:
            (key_id, day), count = self._due.popitem()
            time, address = self._due_last[key_id]
            use = KeyUse(datetime.fromtimestamp(time, UTC), address, count)
            taken.append(UseToAdd(key_id, date.fromordinal(_DAY_0 + day), use))
        return taken

    def note_reported(self, uses: Iterable[UseToAdd]) -> int:
        """Notes what another process has reported.

        A day or time in the future counts as now; a last use before the day that it is
        reported for counts as that day's beginning.

        Returns:
            How many of the reported uses were not believed, because their day is too long
            ago or their count is not plausible. They are not noted.
        """
        now = datetime.fromtimestamp(self._clock.timestamp(), UTC)
        first_day = now.date() - timedelta(days=REPORTED_DAYS)
        refused = 0
        for one in uses:
            if one.day < first_day or not 1 <= one.use.count <= MAX_REPORTED_COUNT:
                refused += 1
                continue
            day = min(one.day, now.date())
            begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
            last = min(max(one.use.last_used_time, begin), now)
            use = KeyUse(last, one.use.last_used_address, one.use.count)
            self.put_back([UseToAdd(one.key_id, day, use)])
        return refused

    def put_back(self, uses: list[UseToAdd]) -> None:
        """Notes again what could not be written."""
        for one in uses:
            place = (one.key_id, one.day.toordinal() - _DAY_0)
            if place not in self._counts and len(self._counts) >= self._most_keys:
                self.left_out += one.use.count
                continue
            total = self._counts.get(place, 0) + one.use.count
            self._counts[place] = min(total, MAX_USE_COUNT)
            earlier = (one.use.last_used_time.timestamp(), one.use.last_used_address)
            self._last[one.key_id] = max(earlier, self._last.get(one.key_id, earlier))
