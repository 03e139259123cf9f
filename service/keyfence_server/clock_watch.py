"""Compares this machine's wall clock with a reference, and reports when the two disagree.

Keys expire by the wall clock, and a new key's expiry is worked out from it. A server whose
clock is wrong refuses good keys, accepts expired ones and makes keys with wrong expiries. It
cannot know that by itself, so it compares:

- with the database's clock, where the database is a server of its own;
- at a sidecar, with the clock of its server, which says its time when a stream is opened;
- otherwise with the time that has passed since the start, by a clock that no administrator
  sets, so a step of the wall clock shows;
- at the start also with the last time at which a server used the data directory.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog

from keyfence_server.application.ports import Clock, StoreUnavailable
from keyfence_server.coherence.ports import BootClock

COMPARE_SECONDS: Final = 5.0
"""How often to compare."""


@dataclass(frozen=True, slots=True)
class Wording:
    """What is said of a wrong clock: by which other clock it is wrong, what follows until it is set
    right, and what to do."""

    reference: str
    consequence: str
    advice: str


SERVER: Final = Wording(
    "the database's clock",
    "no key is created until the clock is correct",
    "set the machine's clock by NTP. If it is right, correct the database's clock; on SQLite, stop "
    "the server, delete high-water in the data directory, and start it again",
)
SIDECAR: Final = Wording(
    "the clock of the server upstream",
    "keys expire here at the wrong time until the clock is correct",
    "set the machine's clock by NTP. If it is right, correct the clock of the server upstream",
)

_log = structlog.get_logger("keyfence")


@dataclass(eq=False)
class ClockWatch:
    """Knows how far the wall clock is off.

    Attributes:
        clock: this machine's wall clock.
        boot_clock: a clock that no administrator sets.
        bound_seconds: by how much the wall clock may be off.
        reference_time: the time of the clock to compare with; None if there is none.
        not_before: a time that has passed; None if none is known.
        wording: what is said of a wrong clock.
        skew_seconds: how far the wall clock is ahead of the reference; negative if it is
            behind, zero until the first comparison.
    """

    clock: Clock
    boot_clock: BootClock
    bound_seconds: float
    reference_time: Callable[[], Awaitable[datetime | None]]
    not_before: datetime | None = None
    wording: Wording = SERVER
    skew_seconds: float = field(init=False, default=0.0)
    _reference: str = field(init=False, default="the time that has passed since the start")
    _is_wrong: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        started, last = self.clock.timestamp(), self.not_before
        if last is not None and started < last.timestamp() - self.bound_seconds:
            self._reference = "the last time at which a server used the data directory"
            started = last.timestamp()
        self._offset = started - self.boot_clock.now()

    def problem(self) -> str | None:
        """What is wrong with the wall clock and what to do, for an operator; None if nothing."""
        if not self._is_wrong:
            return None
        direction = "ahead of" if self.skew_seconds > 0 else "behind"
        by = timedelta(seconds=round(abs(self.skew_seconds)))
        wrong = f"the clock of this server is {by} {direction} {self._reference}"
        return f"{wrong}; {self.wording.consequence}"

    async def compare(self) -> None:
        """Compares once. A database that does not answer changes nothing."""
        before = self.clock.timestamp()
        try:
            theirs = await self.reference_time()
        except StoreUnavailable:
            return
        after = self.clock.timestamp()
        if theirs is not None:
            self._reference = self.wording.reference
            # The other side has read its clock at some moment between the two readings of ours.
            # The nearer one counts, so a slow answer does not look like a wrong clock.
            reference = theirs.timestamp()
            ahead, behind = before - reference, after - reference
            self.skew_seconds = ahead if ahead > 0 else min(behind, 0.0)
        else:
            self.skew_seconds = after - (self._offset + self.boot_clock.now())
        self._report(abs(self.skew_seconds) > self.bound_seconds)

    def _report(self, is_wrong: bool) -> None:
        if is_wrong is self._is_wrong:
            return
        self._is_wrong = is_wrong
        if is_wrong:
            _log.error(
                "clock_wrong",
                skew_seconds=round(self.skew_seconds, 1),
                problem=self.problem(),
                advice=self.wording.advice,
            )
        else:
            _log.warning("clock_right", skew_seconds=round(self.skew_seconds, 1))
