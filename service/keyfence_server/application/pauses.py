"""Long work on the event loop, in slices: short calls, such as checks, are answered in between.

Work that needs the event loop, or whose parts are small, is not worth a thread. It goes on in
slices of a few milliseconds instead. Of all such work one slice runs at a time. A check takes
several turns of the event loop, and would wait for a slice in each of them. So a slice is followed
by a pause: as long as the slice, if a call has arrived since, and very short otherwise. After a
slice of less than half a millisecond there is none, since the timers of an event loop count in
milliseconds.
"""

from __future__ import annotations

import asyncio
import time
from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

QUIET_SECONDS: Final = 0.02
"""After so long without a call, slices follow one another without a pause."""
GRACE_SECONDS: Final = 0.001
"""How long a call has to arrive after a slice, so that the next one waits."""
SHORTEST_PAUSE_SECONDS: Final = 0.0005
"""A pause that would be shorter is left out."""


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
        """Notes how much was done, and pauses if that was enough."""
        if self.is_due(done):
            await pause()

    def is_due(self, done: int = 1) -> bool:
        """Notes how much was done, and says whether that was enough for a pause. A loop over
        thousands of items saves a coroutine for each of them."""
        self._left -= done
        if self._left > 0:
            return False
        self._left = self._slice
        return True


async def pause() -> None:
    """Ends a slice, and waits until the next one may run."""
    await _slices().turn()


def note_call() -> None:
    """Notes that a call has arrived, for which slices must leave room."""
    _slices().note_call()


class Slices:
    """Gives each slice on an event loop its turn.

    Args:
        now: reads a clock that never goes back, in seconds.
    """

    def __init__(
        self, loop: AbstractEventLoop, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self._loop = loop
        self._now = now
        self._waiting: deque[Future[None]] = deque()
        self._is_due = False
        self._slice_began = 0.0
        self._slice_ended = float("-inf")
        self._last_call = float("-inf")

    def note_call(self) -> None:
        """Notes that a call has arrived."""
        self._last_call = self._now()

    async def turn(self) -> None:
        """Waits until the next slice may run. It ends where the caller waits next."""
        mine: Future[None] = self._loop.create_future()
        self._waiting.append(mine)
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._give_turn)
        await mine
        self._slice_began = self._now()

    def _give_turn(self) -> None:
        now = self._now()
        if (left := self._pause_left(now)) > 0:
            # uvloop's timers count in whole milliseconds. One of none would be set again and again
            # until the pause is over.
            self._loop.call_later(max(round(left, 3), 0.001), self._give_turn)
            return
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():
                self._slice_began = now
                first.set_result(None)
                # Runs after the slice, which the result has put in front of it.
                self._loop.call_soon(self._end_slice)
                return
        self._is_due = False

    def _pause_left(self, now: float) -> float:
        if now >= self._last_call + QUIET_SECONDS:
            return 0.0
        pause = self._slice_ended - self._slice_began
        if self._last_call <= self._slice_ended:
            pause = min(pause, GRACE_SECONDS)
        if pause < SHORTEST_PAUSE_SECONDS:
            return 0.0
        return self._slice_ended + pause - now

    def _end_slice(self) -> None:
        self._slice_ended = self._now()
        self._loop.call_soon(self._give_turn)


_BY_LOOP: Final[WeakKeyDictionary[AbstractEventLoop, Slices]] = WeakKeyDictionary()


def _slices() -> Slices:
    loop = asyncio.get_running_loop()
    found = _BY_LOOP.get(loop)
    if found is None:
        found = _BY_LOOP[loop] = Slices(loop)
    return found
