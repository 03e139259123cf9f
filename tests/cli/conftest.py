"""One server for all tests of the command; each test has a keyspace of its own in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from support.served import Served


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    """A running server. Its directory's path is short, as those of sockets must be."""
    with TemporaryDirectory(prefix="kf") as directory:
        # Passwords that are hashed in no time: what that is worth is tested elsewhere.
        hashing = {"KEYFENCE_PASSWORD_MEMORY_MIB": "8", "KEYFENCE_PASSWORD_PASSES": "1"}
        server = Served(Path(directory), hashing)
        yield server
        server.stop()
