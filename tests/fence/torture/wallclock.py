"""Wall clocks that can be stepped, one for each process: only the time of day, no other clock.

What a process runs on, gRPC and PostgreSQL themselves included, must see the same time of
day, so it is not patched in Python but below libc, by a few lines of C. Where there is no
C compiler, clocks are not stepped; where CI runs, that is an error.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

_OFFSET = struct.Struct("=q")
_SOURCE = Path(__file__).with_name("wallclock.c")


class WallClock:
    """The wall clock of a process and its children."""

    def __init__(self, path: Path, library: Path) -> None:
        self._path = path
        self._library = library
        self.step(0.0)

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process must be started with to have this clock."""
        return {"LD_PRELOAD": str(self._library), "TORTURE_WALL_CLOCK": str(self._path)}

    def step(self, seconds: float) -> None:
        """From now on the clock is ahead by so much, or behind."""
        offset = _OFFSET.pack(round(seconds * 1e9))
        if self._path.exists():
            # In place: the processes have the file in their memory.
            with self._path.open("r+b") as file:
                file.write(offset)
        else:
            self._path.write_bytes(offset)
            self._path.chmod(0o644)


class WallClocks:
    """Makes wall clocks, in a directory that every user may read.

    Attributes:
        by_name: those that were made; none if there is no C compiler.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._library = _compiled(directory)
        self.by_name: dict[str, WallClock] = {}

    def environment(self, name: str) -> Mapping[str, str]:
        """Of a process with a wall clock of its own."""
        if self._library is None:
            return {}
        clock = WallClock(self._directory / f"{name}.clock", self._library)
        self.by_name[name] = clock
        return clock.environment


def _compiled(directory: Path) -> Path | None:
    compiler = shutil.which("cc")
    if compiler is None:
        if "CI" in os.environ:
            raise RuntimeError("wall clocks cannot be stepped: there is no C compiler")
        return None
    library = directory / "wallclock.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-o", str(library), str(_SOURCE), "-ldl"],
        check=True,
    )
    return library
