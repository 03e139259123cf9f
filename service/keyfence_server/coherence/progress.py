"""Lets a task wait until another task announces that a shared state has changed."""

from __future__ import annotations

import asyncio


class Progress:
    """Wakes all waiting tasks at each announcement."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next: asyncio.Future[None] | None = None

    def announce(self) -> None:
        """Wakes the tasks that wait now."""
        if self._next is not None and not self._next.done():
            self._next.set_result(None)
        self._next = None

    def wait(self) -> asyncio.Future[None]:
        """Done at the next announcement. Call this *before* reading the state."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        return asyncio.shield(self._next)
