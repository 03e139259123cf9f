"""The thread in which the caches of this process are kept in step, all in one event loop.

One for all clients, and for as long as the process lives: `grpc.aio` hands an event to
whichever loop wakes first, and what then comes late for a loop that is closed is printed
as an error. A fork ends it, since gRPC's own threads crash the child otherwise.

It does not know what it runs.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Coroutine
from typing import Any, Final

_QUIET_SECONDS: Final = 1.0


class Work:
    """Something that goes on in the thread until it is cancelled."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
        self._loop = loop
        self._work = work
        self._task: asyncio.Task[None] | None = None
        self._ended = threading.Event()
        loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._work)
        self._task.add_done_callback(lambda _: self._ended.set())

    def cancel(self) -> None:
        """Has it end, soon."""
        try:
            self._loop.call_soon_threadsafe(self._cancel)
        except RuntimeError:
            # The loop is closed, and nothing goes on in it.
            self._ended.set()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def wait(self, seconds: float) -> bool:
        """Waits until it has ended, and says whether it has."""
        return self._ended.wait(seconds)


class LoopThread:
    """A thread with an event loop, which goes on until it is stopped."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="keyfence-caches", daemon=True)
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """Whether it is the thread that asks."""
        return self._thread is threading.current_thread()

    def start(self, work: Coroutine[Any, Any, None]) -> Work:
        """Begins something."""
        return Work(self._loop, work)

    def stop(self, seconds: float) -> bool:
        """Ends the thread, whose work has ended before. Says whether it has."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(_quiet())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()
            # gRPC's thread for event loops ends with the last of its channels, and one that was
            # cancelled while it connected is part of a cycle.
            gc.collect()


async def _quiet() -> None:
    """Lets what gRPC still has under way come to its end."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=_QUIET_SECONDS)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
