"""An authority over a SQLite store that has a root and two keyspaces."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from application.authority import Authority, found
from keyfence_server.adapters.sql import open_store
from support.clock import FrozenClock


@pytest.fixture(scope="session")
def founded_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the root credential and the keyspaces, to make copies of."""
    path = tmp_path_factory.mktemp("founded") / "store.db"
    asyncio.run(found(path))
    return path


@pytest.fixture
async def authority(
    founded_database: Path, tmp_path: Path, clock: FrozenClock
) -> AsyncIterator[Authority]:
    """A started authority with a store of its own."""
    path = tmp_path / "store.db"
    shutil.copy(founded_database, path)
    store = await open_store(f"sqlite:///{path}")
    authority = Authority(store, clock)
    await authority.start()
    yield authority
    await authority.mutations.finish()
    await store.close()
