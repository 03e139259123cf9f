"""Lets a task wait until another task announces that a shared state has changed."""

from __future__ import annotations

import asyncio
from typing import Final

from keyfence_server.coherence.ports import BootClock

NEVER: Final = float("inf")


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


async def wait_until(clock: BootClock, moved: asyncio.Future[None], when: float) -> None:
    """Returns at the next announcement or at `when`, whichever comes first."""
    if when == NEVER:
        await moved
        return
    timer = asyncio.ensure_future(clock.sleep_until(when))
    try:
        await asyncio.wait((moved, timer), return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
