"""Keeps what anybody can cause from filling the log."""

from __future__ import annotations

from time import monotonic

import structlog

_log = structlog.get_logger("keyfence.rpc")


class LogLimit:
    """Admits so many lines a second, and says how many it left out."""

    __slots__ = ("_admitted", "_left_out", "_per_second", "_second")

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._second = 0
        self._admitted = 0
        self._left_out = 0

    def admits(self) -> bool:
        """Whether one more line may be written now."""
        second = int(monotonic())
        if second != self._second:
            if self._left_out:
                _log.warning("log_lines_left_out", lines=self._left_out)
            self._second, self._admitted, self._left_out = second, 0, 0
        if self._admitted < self._per_second:
            self._admitted += 1
            return True
        self._left_out += 1
        return False
