"""`keyfence` as a process whose wall clock is off by the seconds in a file.

Run as `python -m support.shifted_clock FILE ARGUMENTS...`. The file is read at every look at
the clock, so a test can set the clock of a running process. The clock that counts leases is
not touched.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from keyfence_server.adapters.clock import SystemClock


def _shift(file: Path) -> None:
    def offset() -> float:
        return float(file.read_text() or 0)

    def now(_: SystemClock) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=offset())

    def timestamp() -> float:
        return time.time() + offset()

    patched: Any = SystemClock
    patched.now = now
    patched.timestamp = staticmethod(timestamp)


if __name__ == "__main__":
    from keyfence_server.cli import main

    _shift(Path(sys.argv.pop(1)))
    main()
