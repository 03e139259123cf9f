"""Temporary files in memory: databases that tests make and throw away need not wait for a disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

_MEMORY: Final = Path("/dev/shm")
_ROOM_BYTES: Final = 4 << 30


def keep_temporary_files_in_memory() -> None:
    """Has this process and those that it starts keep their temporary files in memory, if the
    system has room there and nothing else is asked for.

    No test can tell the difference: those of crashes kill processes, and none takes the power.
    """
    if "TMPDIR" not in os.environ and _is_usable(_MEMORY):
        os.environ["TMPDIR"] = str(_MEMORY)
        # `tempfile` remembers its folder. Without one it looks at TMPDIR again.
        tempfile.tempdir = None


def _is_usable(folder: Path) -> bool:
    return (
        os.access(folder, os.W_OK | os.X_OK)
        # Containers forbid to run programs from there, which tests compile.
        and not os.statvfs(folder).f_flag & os.ST_NOEXEC
        and shutil.disk_usage(folder).free > _ROOM_BYTES
    )
