"""Keeps what a client can cause from filling the log: one limit for each event.

It is a filter of the handler that all lines go through, so no event is without a limit, and
lines of libraries have one, too. A line that is left out is never put together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final

import structlog

from keyfence_server.domain.rates import PerSecond

LINES_PER_SECOND: Final = 10
"""How many lines of one event are written in a second."""
MORE_LINES: Final[Mapping[str, int]] = {"mutation_done": 100}
"""Events that are limited otherwise: each mutation is worth a line, and turns bound them."""

_log = structlog.get_logger("keyfence")


class LogLimits(logging.Filter):
    """Admits so many lines of each event in a second, and says how many it left out.

    Each event has a limit of its own: a client with a credential must not be able to hide what
    one without a credential does. Events are names in the code, so they are few. The lines of
    a library count together for each of its loggers.
    """

    def __init__(
        self, lines_per_second: int = LINES_PER_SECOND, clock: Callable[[], float] = monotonic
    ) -> None:
        super().__init__()
        self._clock: Final = clock
        self._lines_per_second: Final = lines_per_second
        self._by_event: Final[dict[str, PerSecond]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line may be written now."""
        # structlog's lines are mappings until the handler formats them.
        content: object = record.msg
        return self.admits(str(content["event"]) if isinstance(content, dict) else record.name)

    def admits(self, event: str) -> bool:
        """Whether one more line of this event may be written now."""
        limit = self._by_event.get(event)
        if limit is None:
            most = MORE_LINES.get(event, self._lines_per_second)
            limit = self._by_event[event] = PerSecond(most, self._clock)
        admitted = limit.admits()
        if admitted and limit.left_out:
            _log.warning("log_lines_left_out", of=event, lines=limit.take_left_out())
        return admitted
