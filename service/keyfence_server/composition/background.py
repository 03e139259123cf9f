"""Loops that run until the process ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import structlog

from keyfence.holder.clock import SystemBootClock

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


def run_in_background(work: Coroutine[Any, Any, None], resources: AsyncExitStack) -> None:
    """Runs the work in a task, which is cancelled when the resources are released."""
    task = asyncio.ensure_future(work)

    async def end() -> None:
        task.cancel()
        await asyncio.wait({task})

    resources.push_async_callback(end)
