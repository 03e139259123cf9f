"""SQLite keeps the store's contract."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from keyfence_server.adapters.sql import StoreOptions, open_store
from keyfence_server.application.ports import Store
from store_contract import Harness, StoreContract


class SqliteHarness:
    """A file. It is taken away by another process that locks it for writing."""

    reads_need_the_switch = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stores: list[Store] = []
        self._intruder: sqlite3.Connection | None = None

    async def open(self) -> Store:
        """See the contract."""
        options = StoreOptions(lock_timeout=timedelta(seconds=0.3))
        self._stores.append(await open_store(f"sqlite:///{self._path}", options=options))
        return self._stores[-1]

    async def close(self) -> None:
        """Closes what was opened."""
        for store in self._stores:
            await store.close()

    async def query(self, statement: str) -> list[tuple[Any, ...]]:
        """See the contract."""
        connection = sqlite3.connect(self._path)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    async def count_open_transactions(self) -> int:
        """See the contract. A lock for writing is all that can be seen from outside."""
        connection = sqlite3.connect(self._path, timeout=0, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return 1
        else:
            # A reader that was left behind would keep the log from being emptied.
            connection.execute("ROLLBACK")
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return int(busy)
        finally:
            connection.close()

    async def take_away(self) -> None:
        """See the contract."""
        self._intruder = sqlite3.connect(self._path, isolation_level=None)
        self._intruder.execute("BEGIN IMMEDIATE")

    async def give_back(self) -> None:
        """See the contract."""
        assert self._intruder is not None
        self._intruder.close()


class TestSqlite(StoreContract):
    """The whole contract, on a file."""

    @pytest.fixture
    async def harness(self, tmp_path: Path) -> AsyncIterator[Harness]:
        """A file that is not there yet."""
        harness = SqliteHarness(tmp_path / "store.db")
        yield harness
        await harness.close()
