"""For how long an event loop is held, as a count that does not depend on the machine."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

MOST_CALLS: Final = 20_000
"""Of functions, those in C included, between two turns. They take some milliseconds."""


class Counted:
    """Counts the calls of functions on this thread between two turns of its event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls = 0
        self._is_over = False
        self.most = 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Counts until the end of the block."""
        self._turn()
        sys.setprofile(self._count)
        try:
            yield
        finally:
            sys.setprofile(None)
            self._is_over = True

    def _count(self, _frame: object, event: str, _argument: object) -> None:
        if event in {"call", "c_call"}:
            self._calls += 1

    def _turn(self) -> None:
        self.most = max(self.most, self._calls)
        self._calls = 0
        if not self._is_over:
            self._loop.call_soon(self._turn)
