"""SQLite files with tables, copied: bringing one up to date costs more than most tests."""

from __future__ import annotations

import asyncio
import functools
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from keyfence_server.adapters.sql import upgrade


def copy_migrated(path: Path) -> Path:
    """Puts an empty store with its tables at a path, as an earlier start would have."""
    # The file's permissions are the product's own.
    shutil.copy(_template(), path)
    return path


@functools.cache
def _template() -> Path:
    directory = Path(_directory().name)
    made = directory / "template.db"
    # In a thread, which has no event loop that is running.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(upgrade(f"sqlite:///{made}"))).result()
    assert [entry.name for entry in directory.iterdir()] == [made.name]
    return made


@functools.cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    # Kept for as long as the process lives, and removed at its end.
    return tempfile.TemporaryDirectory(prefix="kf-sqlite-")
