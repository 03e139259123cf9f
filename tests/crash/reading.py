"""A store's tables, read past the store, as they are at one moment."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg

from crash.evidence import Query
from keyfence_server.adapters.sql.urls import parse_database_url

_OTHERS = (
    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    " AND datname = current_database() AND pid <> pg_backend_pid()"
)

Read = Callable[[str], AbstractAsyncContextManager[Query]]


@asynccontextmanager
async def read_sqlite(url: str) -> AsyncIterator[Query]:
    """One moment of the file, read past the store; it is repaired as by any opening."""
    connection = sqlite3.connect(parse_database_url(url).path, isolation_level=None)

    async def query(statement: str) -> list[tuple[Any, ...]]:
        return connection.execute(statement).fetchall()

    try:
        connection.execute("BEGIN")
        yield query
    finally:
        connection.close()


@asynccontextmanager
async def read_postgresql(url: str) -> AsyncIterator[Query]:
    """One moment of the database, read past the store."""
    connection = await asyncpg.connect(url)

    async def query(statement: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await connection.fetch(statement)]

    try:
        # What was sent before the kill is still carried out, and must not happen in between.
        while await connection.fetchval(_OTHERS):  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.001)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            yield query
    finally:
        await connection.close()
