"""One process at a time on what lies in a directory.

The kernel holds the lock on an open file, and releases it when the process ends, so a
crash leaves no lock behind. The pid in the file is for operators only.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from keyfence_server.adapters.files.private import PRIVATE_FILE


class AlreadyLocked(Exception):
    """Another process has the lock.

    Attributes:
        holder: its pid, where it could be read.
    """

    def __init__(self, path: Path, holder: int | None) -> None:
        who = f"process {holder}" if holder else "another process"
        super().__init__(f"{path} is held by {who}")
        self.holder = holder


class FileLock:
    """Holds a file's lock from its making to `release`, or to the end of the process."""

    def __init__(self, path: Path) -> None:
        """Takes the lock.

        Raises:
            AlreadyLocked: another process has it.
        """
        # Not truncated before it is ours: the holder's pid is in it.
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).strip()
            os.close(self._descriptor)
            raise AlreadyLocked(path, int(holder) if holder.isdigit() else None) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    @property
    def descriptor(self) -> int:
        """The open file. A process that inherits it holds the lock too, until all have ended."""
        return self._descriptor

    def release(self) -> None:
        """Lets the lock go. The file stays: taking it away could take another's lock away."""
        os.close(self._descriptor)
