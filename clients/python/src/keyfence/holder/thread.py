"""The thread that runs the caches of this process, in one event loop.

There is one thread for all clients, and it lives as long as the process: `grpc.aio` hands an event
to the first loop that wakes, and prints an error if it comes late for a closed loop. A fork ends
the thread, because gRPC's own threads would crash the child otherwise.

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
    """A coroutine that runs in the thread until it is cancelled."""

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
        """Cancels the coroutine, and does not wait for its end."""
        try:
            self._loop.call_soon_threadsafe(self._cancel)
        except RuntimeError:
            # The loop is closed, so nothing runs in it.
            self._ended.set()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def wait(self, seconds: float) -> bool:
        """Waits until the coroutine has ended. Returns whether it has."""
        return self._ended.wait(seconds)


class LoopThread:
    """A thread with an event loop that runs until it is stopped."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="keyfence-caches", daemon=True)
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """Whether the calling thread is this one."""
        return self._thread is threading.current_thread()

    def start(self, work: Coroutine[Any, Any, None]) -> Work:
        """Runs a coroutine in the thread."""
        return Work(self._loop, work)

    def stop(self, seconds: float) -> bool:
        """Ends the thread, after its work has ended. Returns whether the thread has ended."""
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
    """Lets gRPC finish the work that is under way."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=_QUIET_SECONDS)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
