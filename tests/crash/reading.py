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

_BUSY_OTHERS = f"{_OTHERS} AND state <> 'idle'"

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


def read_postgresql(url: str) -> AbstractAsyncContextManager[Query]:
    """One moment of the database after every server on it was killed, read past the store."""
    return _read_postgresql(url, _OTHERS)


def read_postgresql_in_use(url: str) -> AbstractAsyncContextManager[Query]:
    """One moment of the database in which no transaction is open: another server goes on."""
    return _read_postgresql(url, _BUSY_OTHERS)


@asynccontextmanager
async def _read_postgresql(url: str, others: str) -> AsyncIterator[Query]:
    connection = await asyncpg.connect(url)

    async def query(statement: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await connection.fetch(statement)]

    try:
        # What was sent before the kill is still carried out, and must not happen in between.
        while await connection.fetchval(others):  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.001)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            yield query
    finally:
        await connection.close()
