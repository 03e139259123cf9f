"""Keeps what a client can cause from filling the log: one limit for each event."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

import structlog

from keyfence_server.domain.rates import PerSecond

LINES_PER_SECOND: Final = 10
"""How many lines of one event are written in a second."""

_log = structlog.get_logger("keyfence")


class LogLimits:
    """Admits so many lines of each event in a second, and says how many it left out.

    Each event has a limit of its own: a client with a credential must not be able to hide what
    one without a credential does. Events are names in the code, so they are few.
    """

    def __init__(
        self, lines_per_second: int = LINES_PER_SECOND, clock: Callable[[], float] = monotonic
    ) -> None:
        self._clock: Final = clock
        self._lines_per_second: Final = lines_per_second
        self._by_event: Final[dict[str, PerSecond]] = {}

    def admits(self, event: str) -> bool:
        """Whether one more line of this event may be written now."""
        limit = self._by_event.get(event)
        if limit is None:
            limit = self._by_event[event] = PerSecond(self._lines_per_second, self._clock)
        admitted = limit.admits()
        if admitted and limit.left_out:
            _log.warning("log_lines_left_out", of=event, lines=limit.take_left_out())
        return admitted
