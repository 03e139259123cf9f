"""Work that goes on for as long as the process does."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any


def run_in_background(work: Coroutine[Any, Any, None], resources: AsyncExitStack) -> None:
    """Runs the work in a task, which is cancelled when the resources are released."""
    task = asyncio.ensure_future(work)

    async def end() -> None:
        task.cancel()
        await asyncio.wait({task})

    resources.push_async_callback(end)
