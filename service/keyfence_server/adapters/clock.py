"""The time of the machine."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Final

# macOS has no clock of that name; its monotonic one goes on while the machine sleeps.
_BOOT_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """Keeps the `Clock` port by the system's clock."""

    def now(self) -> datetime:
        """See the port."""
        return datetime.now(UTC)

    # Asked twice at every check, so without a frame of its own.
    timestamp = staticmethod(time.time)


class SystemBootClock:
    """Keeps the `BootClock` port by `CLOCK_BOOTTIME`."""

    def now(self) -> float:
        """See the port."""
        return time.clock_gettime(_BOOT_CLOCK)

    async def sleep_until(self, when: float) -> None:
        """See the port."""
        # The event loop's own clock stands still while the machine sleeps.
        while (left := when - self.now()) > 0:  # noqa: ASYNC110 - nothing to be told by
            await asyncio.sleep(left)
