"""Long loops on the event loop, in slices: other calls get their turn now and then.

Work that needs the event loop, or whose parts are small, is not worth a thread. It goes on in
slices instead. A slice takes a few milliseconds.
"""

from __future__ import annotations

import asyncio


class Pauses:
    """Pauses a loop whenever it has done so much.

    Args:
        slice_: how much is done between two pauses, in any unit.
    """

    __slots__ = ("_left", "_slice")

    def __init__(self, slice_: int) -> None:
        self._slice = slice_
        self._left = slice_

    async def after(self, done: int = 1) -> None:
        """Notes how much was done, and lets other calls have their turn if that was enough."""
        self._left -= done
        if self._left <= 0:
            self._left = self._slice
            await asyncio.sleep(0)
