"""The time of the machine."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """Keeps the `Clock` port by the system's clock."""

    def now(self) -> datetime:
        """See the port."""
        return datetime.now(UTC)

    def timestamp(self) -> float:
        """See the port."""
        return time.time()
