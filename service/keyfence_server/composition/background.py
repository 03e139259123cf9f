"""Loops that run until the process ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any

import structlog

from keyfence.holder.clock import SystemBootClock
from keyfence_server.adapters.clock import SystemClock
from keyfence_server.clock_watch import COMPARE_SECONDS, SERVER, ClockWatch, Wording
from keyfence_server.config import Settings

_log = structlog.get_logger("keyfence")


async def repeat(work: Callable[[], Awaitable[object]], pause_seconds: float) -> None:
    """Does the work after each pause, until it is cancelled. A fault of it is logged, and does
    not end the repetition."""
    clock = SystemBootClock()
    while True:
        await clock.sleep_until(clock.now() + pause_seconds)
        try:
            await work()
        except Exception:  # noqa: BLE001 - a watch that ends would notice nothing any more
            _log.exception("loop_failed", loop=work.__name__)


async def watch_clock(
    settings: Settings,
    resources: AsyncExitStack,
    reference_time: Callable[[], Awaitable[datetime | None]],
    not_before: datetime | None = None,
    wording: Wording = SERVER,
) -> ClockWatch:
    """Compares this machine's wall clock once, and from then on in the background."""
    bound = settings.max_clock_skew_seconds
    watch = ClockWatch(SystemClock(), SystemBootClock(), bound, reference_time, not_before, wording)
    await watch.compare()
    run_in_background(repeat(watch.compare, COMPARE_SECONDS), resources)
    return watch


def run_in_background(work: Coroutine[Any, Any, None], resources: AsyncExitStack) -> None:
    """Runs the work in a task, which is cancelled when the resources are released."""
    task = asyncio.ensure_future(work)

    async def end() -> None:
        task.cancel()
        await asyncio.wait({task})

    resources.push_async_callback(end)
