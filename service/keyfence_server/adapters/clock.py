"""The time of the machine."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """Implements the `Clock` port by the system's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    # Asked twice at every check, so without a frame of its own.
    timestamp = staticmethod(time.time)
