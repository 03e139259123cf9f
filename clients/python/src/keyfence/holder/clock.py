"""The clock by which leases are measured."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Final

# macOS has no clock of that name; its monotonic one goes on while the machine sleeps.
_BOOT_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemBootClock:
    """Implements `Clock` by `CLOCK_BOOTTIME`.

    Attributes:
        now: reads the clock, in seconds since the machine was started.
    """

    def __init__(self) -> None:
        # Read at every check, so without a Python frame of its own.
        self.now = partial(time.clock_gettime, _BOOT_CLOCK)

    async def sleep_until(self, when: float) -> None:
        """See `Clock`."""
        # The event loop's own clock stands still while the machine sleeps.
        while (left := when - self.now()) > 0:  # noqa: ASYNC110 - nothing to be told by
            await asyncio.sleep(left)
