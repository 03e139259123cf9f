"""Work that takes the processor for long, where it cannot stop checks.

Checks are answered on the event loop, so nothing may hold that for more than 20
milliseconds. Work that can take longer, such as compiling a keyspace of ten thousand
scopes, runs on a thread: Python lets the event loop go on ten times a millisecond. One piece
runs at a time, so that checks share the processor with one thread at most. Keyspaces take
turns, and each has a limited number of places, so that one cannot keep the others waiting.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final, TypeVar

from keyfence_server.application.turns import Queue
from keyfence_server.domain.errors import Overloaded

T = TypeVar("T")

MAX_WAITING: Final = 8
"""How much work of one keyspace may wait or run."""
SMALL: Final = 200
"""Work on so many things is done at once: it takes less than a change of threads is worth."""


class HeavyWork:
    """Runs work that takes long."""

    def __init__(self, waiting: int = MAX_WAITING) -> None:
        self._most_waiting = waiting
        self._queue: Queue[asyncio.Future[None]] = Queue()
        self._is_running = False
        self._waiting: Counter[str] = Counter()

    async def run(self, keyspace: str, size: int, work: Callable[[], T]) -> T:
        """Does some work and returns its result, or raises what it raises.

        Args:
            keyspace: whose work it is.
            size: how many things it is about, such as scopes or keys.
            work: may touch nothing that changes meanwhile.

        Raises:
            Overloaded: too much work of this keyspace waits already.
        """
        if size <= SMALL:
            return work()
        if self._waiting[keyspace] >= self._most_waiting:
            raise Overloaded(
                f'keyspace "{keyspace}" has too much work waiting; try again later',
                limit="heavy_work_per_keyspace",
            )
        self._waiting[keyspace] += 1
        # A caller that goes away does not stop the thread, so the turn stays taken till its end.
        return await asyncio.shield(asyncio.ensure_future(self._run(keyspace, work)))

    async def _run(self, keyspace: str, work: Callable[[], T]) -> T:
        try:
            if self._is_running:
                turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._queue.add((keyspace, ""), turn, restrictive=False)
                await turn
            self._is_running = True
            try:
                return await asyncio.to_thread(work)
            finally:
                # Where work waits, its turn comes now, and no other work begins in between.
                following = self._queue.take()
                self._is_running = following is not None
                if following is not None:
                    following.set_result(None)
        finally:
            self._waiting[keyspace] -= 1
            if not self._waiting[keyspace]:
                del self._waiting[keyspace]
