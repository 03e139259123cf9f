"""A server that says how long its event loop was held, and what that cost of the processor.

    python -m bench.watched_server

takes its settings from the environment, as `keyfence serve` does. For each line that it reads it
writes one: the longest time between two turns of the loop since the last line, as the loop's
thread used the processor and by the clock, and what the whole process used, in milliseconds.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Final

import uvloop

from keyfence_server.composition.server import start
from keyfence_server.config import Settings
from keyfence_server.process import keep_full_collections_short, let_the_event_loop_go_first
from keyfence_server.telemetry.logs import configure_logs

_PERIOD_SECONDS: Final = 0.0005


class _LoopWatch:
    """Sees how long the loop of the current thread is held."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.reset()
        self._beat()

    def reset(self) -> None:
        """Begins anew."""
        self._cpu, self._clock = time.thread_time(), time.perf_counter()
        self._process = time.process_time()
        self.longest_cpu = self.longest = 0.0

    def read(self) -> str:
        """What has been seen since the last reset."""
        used = time.process_time() - self._process
        return " ".join(f"{1e3 * one:.3f}" for one in (self.longest_cpu, self.longest, used))

    def _beat(self) -> None:
        cpu, clock = time.thread_time(), time.perf_counter()
        self.longest_cpu = max(self.longest_cpu, cpu - self._cpu)
        self.longest = max(self.longest, clock - self._clock - _PERIOD_SECONDS)
        self._cpu, self._clock = cpu, clock
        self._loop.call_later(_PERIOD_SECONDS, self._beat)


async def _serve() -> None:
    let_the_event_loop_go_first()
    configure_logs("json", "error", sys.stderr)
    server = await start(Settings())
    keep_full_collections_short()
    watch = _LoopWatch()
    loop = asyncio.get_running_loop()

    def answer() -> None:
        print(watch.read(), flush=True)
        watch.reset()

    def read_lines() -> None:
        for _ in sys.stdin:
            loop.call_soon_threadsafe(answer)
        loop.call_soon_threadsafe(ended.set)

    ended = asyncio.Event()
    threading.Thread(target=read_lines, daemon=True).start()
    await ended.wait()
    await server.stop()


if __name__ == "__main__":
    uvloop.run(_serve())
