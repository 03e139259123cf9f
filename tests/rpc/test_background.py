"""Work that is repeated goes on after a fault of its own, and says so."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import AsyncExitStack

from keyfence_server.composition.background import repeat, run_in_background


async def test_a_fault_is_logged_and_does_not_end_the_repetition(log: io.StringIO) -> None:
    """Without it, a single fault would leave a wrong clock unnoticed for the process's life."""
    times, done = 0, asyncio.Event()

    async def work() -> None:
        nonlocal times
        times += 1
        if times == 1:
            raise RuntimeError("a fault")
        done.set()

    async with AsyncExitStack() as resources:
        run_in_background(repeat(work, 0.001), resources)
        async with asyncio.timeout(30):
            await done.wait()
    line = json.loads(log.getvalue().splitlines()[0])
    assert (line["event"], line["loop"]) == ("loop_failed", "work")
