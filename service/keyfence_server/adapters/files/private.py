"""Files that only the server's own user may read, written whole or not at all.

A file is never wider than mode 0600, not even for the moment between its creation
and a `chmod`, and it appears under its name only when its content is on the disk.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PRIVATE_DIRECTORY: Final = 0o700
PRIVATE_FILE: Final = 0o600


def make_private_directory(path: Path) -> None:
    """Makes the directory, with mode 0700, where there is none. One that is there stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=PRIVATE_DIRECTORY)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        # The process's umask may have taken bits away, but never added one.
        path.chmod(PRIVATE_DIRECTORY)


def create_private_file(path: Path, content: str) -> None:
    """Writes a new file at once.

    Raises:
        FileExistsError: there is a file of this name. It stays as it was.
    """
    with _written(path, content) as unfinished:
        # Linking, unlike renaming, fails where a file of this name has appeared meanwhile.
        os.link(unfinished, path)
    sync_directory(path.parent)


def replace_private_file(path: Path, content: str) -> None:
    """Writes a file in place of the one of this name, if there is one."""
    with _written(path, content) as unfinished:
        unfinished.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Returns when the names of the files in the directory are on the disk."""
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextmanager
def _written(path: Path, content: str) -> Iterator[Path]:
    """A file beside `path` with the content on the disk. It is deleted at the end."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield unfinished
    finally:
        unfinished.unlink(missing_ok=True)


def is_readable_by_others(path: Path) -> bool:
    """Whether users other than the owner and the group may read the file."""
    return bool(path.stat().st_mode & stat.S_IROTH)
