"""Something to wait on: that a state which others change has come to be as wished."""

from __future__ import annotations

import asyncio


class Progress:
    """Wakes everyone who waits, each time that something has moved on."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next: asyncio.Future[None] | None = None

    def announce(self) -> None:
        """Wakes whoever waits now."""
        if self._next is not None and not self._next.done():
            self._next.set_result(None)
        self._next = None

    def wait(self) -> asyncio.Future[None]:
        """Done at the next announcement. Ask for it *before* looking at the state."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        return asyncio.shield(self._next)
