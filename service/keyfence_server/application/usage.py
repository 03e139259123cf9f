"""How keys are used: noted in memory, and written down now and then.

Noting costs a check one look-up in a dictionary. What was noted is written behind: a
process that is killed loses what it has noted since the last time, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Final

from keyfence_server.application.ports import Clock, KeyUse, UseToAdd
from keyfence_server.domain.keys import KeyId

_SECONDS_A_DAY: Final = 86_400
_DAY_0: Final = date(1970, 1, 1).toordinal()


class Uses:
    """What is noted of keys' uses and not written down yet.

    Args:
        most_keys: of how many keys and days to keep notes. Uses of further keys are not
            counted until the notes are written down.

    Attributes:
        left_out: how many uses were not noted, because the store was away for so long.
    """

    def __init__(self, clock: Clock, *, most_keys: int = 100_000) -> None:
        self._clock = clock
        self._most_keys = most_keys
        self._counts: dict[tuple[KeyId, int], int] = {}
        self._last: dict[KeyId, tuple[float, str]] = {}
        self.left_out = 0

    def __len__(self) -> int:
        return len(self._counts)

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

    def note_call(self, key_id: KeyId, peer: Callable[[], str]) -> None:
        """Notes that a key was the credential of a call to Keyfence itself.

        Where the call came from is asked once for all that is written down together.
        """
        known = self._last.get(key_id)
        self.note(key_id, known[1] if known is not None else peer())

    def take(self) -> list[UseToAdd]:
        """All that is noted, to be written down. It is not noted any more."""
        counts, last = self._counts, self._last
        self._counts, self._last = {}, {}
        return [
            UseToAdd(
                key_id,
                date.fromordinal(_DAY_0 + day),
                KeyUse(datetime.fromtimestamp(last[key_id][0], UTC), last[key_id][1], count),
            )
            for (key_id, day), count in counts.items()
        ]

    def note_reported(self, uses: Iterable[UseToAdd]) -> None:
        """Notes what was noted elsewhere. A clock that is ahead there tells of nothing that is
        still to come."""
        now = datetime.fromtimestamp(self._clock.timestamp(), UTC)
        self.put_back(
            [
                replace(
                    one,
                    day=min(one.day, now.date()),
                    use=replace(one.use, last_used_time=min(one.use.last_used_time, now)),
                )
                for one in uses
            ]
        )

    def put_back(self, uses: list[UseToAdd]) -> None:
        """Notes again what could not be written down."""
        for one in uses:
            place = (one.key_id, one.day.toordinal() - _DAY_0)
            if place not in self._counts and len(self._counts) >= self._most_keys:
                self.left_out += one.use.count
                continue
            self._counts[place] = self._counts.get(place, 0) + one.use.count
            earlier = (one.use.last_used_time.timestamp(), one.use.last_used_address)
            self._last[one.key_id] = max(earlier, self._last.get(one.key_id, earlier))
