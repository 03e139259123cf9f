"""Completes operations that must finish even if their caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def to_completion(work: Coroutine[Any, Any, T]) -> T:
    """Runs the work to its end in a task of its own, however often the caller is cancelled.

    A cancellation is passed on once the work has ended, whatever came of it. So the
    caller never goes on while the work does.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        # Retrieved, so that asyncio does not report it as lost: the caller has been cancelled.
        if not task.cancelled():
            task.exception()
        raise cancelled
    return task.result()
