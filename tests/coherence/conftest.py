"""An authority over a store that a test can watch."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from application.authority import Authority
from coherence.watched_store import WatchedStore
from keyfence_server.adapters.sql import open_store
from support.clock import FrozenClock


@pytest.fixture
async def watched(founded_database: Path, tmp_path: Path) -> AsyncIterator[WatchedStore]:
    """A store of the test's own, watched."""
    path = tmp_path / "store.db"
    shutil.copy(founded_database, path)
    store = WatchedStore(await open_store(f"sqlite:///{path}"))
    yield store
    await store.close()


@pytest.fixture
async def authority(watched: WatchedStore, clock: FrozenClock) -> AsyncIterator[Authority]:
    """A started authority over the watched store, which knows its keyspaces already."""
    authority = Authority(watched, clock)
    await authority.start()
    await authority.cache.recogniser()
    yield authority
    await authority.mutations.finish()
