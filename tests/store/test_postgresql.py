"""PostgreSQL keeps the store's contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from keyfence_server.adapters.sql import open_store
from keyfence_server.application.ports import Store
from store_contract import Harness, StoreContract
from support.postgres import PostgresServer

pytestmark = pytest.mark.postgres


class PostgresHarness:
    """A database of a real server. It is taken away by stopping the server."""

    reads_need_the_switch = True

    def __init__(self, server: PostgresServer, url: str) -> None:
        self._server = server
        self._url = url
        self._stores: list[Store] = []

    async def open(self) -> Store:
        """See the contract."""
        self._stores.append(await open_store(self._url))
        return self._stores[-1]

    async def close(self) -> None:
        """Closes what was opened."""
        for store in self._stores:
            await store.close()

    async def query(self, statement: str) -> list[tuple[Any, ...]]:
        """See the contract."""
        connection = await asyncpg.connect(self._url)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    async def count_open_transactions(self) -> int:
        """See the contract."""
        rows = await self.query(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"
        )
        return int(rows[0][0])

    async def take_away(self) -> None:
        """See the contract."""
        await asyncio.to_thread(self._server.stop)

    async def give_back(self) -> None:
        """See the contract."""
        await asyncio.to_thread(self._server.start)


class TestPostgresql(StoreContract):
    """The whole contract, on a real server."""

    @pytest.fixture
    async def harness(
        self, postgres_server: PostgresServer, postgres_url: str
    ) -> AsyncIterator[Harness]:
        """A fresh database."""
        harness = PostgresHarness(postgres_server, postgres_url)
        yield harness
        await harness.close()
