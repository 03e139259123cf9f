"""Which statements run on the event loop, and which on the connection's thread."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.dialects import sqlite

from keyfence_server.adapters.sql import queries
from keyfence_server.adapters.sql.engines import LoneReader
from keyfence_server.adapters.sql.sqlite_connection import (
    READ_ON_THREAD,
    Executed,
    SqliteConnection,
)
from keyfence_server.application.ports import KeySpan
from support.clock import START

LONG = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) "
    "SELECT max(i), thread() FROM n"
)


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[SqliteConnection]:
    """A connection to a file with a table, with a function that tells the thread."""
    opened = await SqliteConnection(str(tmp_path / "a.db"), timeout=30.0).open()
    await opened.create_function("thread", 0, threading.get_ident)
    await opened.cursor().execute("PRAGMA journal_mode = WAL")
    await opened.cursor().execute("CREATE TABLE t (i INTEGER)")
    yield opened
    await opened.close()


async def rows_of(connection: SqliteConnection, statement: str) -> list[tuple[object, ...]]:
    """The rows of a statement."""
    return await (await connection.cursor().execute(statement)).fetchall()


async def test_a_short_reading_runs_on_the_event_loop(connection: SqliteConnection) -> None:
    assert await rows_of(connection, "SELECT thread()") == [(threading.get_ident(),)]


async def test_a_long_reading_is_ended_and_repeated_on_the_thread(
    connection: SqliteConnection,
) -> None:
    await connection.cursor().execute("BEGIN")
    ((last, thread),) = await rows_of(connection, LONG)
    assert last == 100_000
    assert thread != threading.get_ident()
    assert await rows_of(connection, "SELECT count(*) FROM t") == [(0,)]
    await connection.rollback()


async def test_a_short_reading_stays_on_the_event_loop_however_often_it_is_repeated(
    connection: SqliteConnection,
) -> None:
    """SQLite goes on counting the steps of a statement when it is executed again."""
    short = LONG.replace("100000", "200")
    threads = {(await rows_of(connection, short))[0][1] for _ in range(50)}
    assert threads == {threading.get_ident()}


async def test_a_reading_that_is_marked_as_long_begins_on_the_thread(
    connection: SqliteConnection,
) -> None:
    ((thread,),) = await rows_of(connection, f"SELECT {READ_ON_THREAD} thread()")
    assert thread != threading.get_ident()


async def test_grants_are_compared_on_the_thread() -> None:
    """Texts of many kilobytes hold the event loop for long in few of SQLite's steps."""
    span = KeySpan("k", START)
    for query in (queries.count_grants(span), queries.granted(span, [("a",)])):
        text = str(query.compile(dialect=sqlite.dialect()))
        assert text.startswith(f"SELECT {READ_ON_THREAD} ")


async def test_many_rows_are_read_in_slices_and_others_have_their_turn(
    connection: SqliteConnection,
) -> None:
    await connection.cursor().executemany("INSERT INTO t VALUES (?)", [(i,) for i in range(150)])
    await connection.commit()
    turns = 0
    reading = asyncio.ensure_future(rows_of(connection, "SELECT i, thread() FROM t ORDER BY i"))
    while not reading.done():
        turns += 1
        await asyncio.sleep(0)
    assert await reading == [(i, threading.get_ident()) for i in range(150)]
    assert turns > 3


async def test_a_shared_connection_executes_one_statement_at_a_time(
    connection: SqliteConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reading in slices beside another one on the thread would stop the process for ever."""
    await connection.cursor().executemany("INSERT INTO t VALUES (?)", [(i,) for i in range(50)])
    await connection.commit()
    read = SqliteConnection.read
    under_way = most = 0

    async def counted(self: SqliteConnection, statement: str, values: Sequence[Any]) -> Executed:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            # So that a second statement comes while the first one is under way.
            await asyncio.sleep(0)
            return await read(self, statement, values)
        finally:
            under_way -= 1

    async def connect() -> SqliteConnection:
        return connection

    monkeypatch.setattr(SqliteConnection, "read", counted)
    reader = LoneReader(connect)
    found = await asyncio.gather(
        reader.fetch("SELECT i FROM t ORDER BY i", ()), reader.fetch(LONG, ())
    )
    assert [len(rows) for rows in found] == [50, 1]
    assert most == 1


async def test_a_reading_that_is_cancelled_between_two_slices_leaves_the_connection_usable(
    connection: SqliteConnection,
) -> None:
    await connection.cursor().executemany("INSERT INTO t VALUES (?)", [(i,) for i in range(50)])
    await connection.commit()
    await connection.cursor().execute("BEGIN")
    reading = asyncio.ensure_future(rows_of(connection, "SELECT i FROM t"))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await connection.rollback()
    await connection.cursor().execute("BEGIN IMMEDIATE")
    await connection.cursor().execute("DELETE FROM t")
    await connection.commit()
    assert await rows_of(connection, "SELECT count(*) FROM t") == [(0,)]


async def test_a_transaction_waits_for_a_locked_file_and_not_on_the_event_loop(
    connection: SqliteConnection, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        beginning = asyncio.ensure_future(connection.begin())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not beginning.done()
        other.execute("ROLLBACK")
        await beginning
    assert await connection.write("INSERT INTO t VALUES (?)", (1,)) == 1
    await connection.rollback()
    assert await connection.fetch("SELECT count(*) FROM t", ()) == [(0,)]


async def test_a_large_value_is_written_on_the_thread(connection: SqliteConnection) -> None:
    for value, is_here in (("x", True), ("x" * 1_000_000, False)):
        await connection.cursor().execute("BEGIN IMMEDIATE")
        cursor = await connection.cursor().execute(
            "INSERT INTO t SELECT thread() WHERE length(?)", (value,)
        )
        assert cursor.rowcount == 1
        ((thread,),) = await rows_of(connection, "SELECT i FROM t")
        assert (thread == threading.get_ident()) is is_here
        await connection.rollback()


async def test_a_lock_is_waited_for_on_the_thread(
    connection: SqliteConnection, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    begun = asyncio.create_task(connection.cursor().execute("BEGIN IMMEDIATE"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not begun.done(), "the loop goes on meanwhile"
    other.execute("ROLLBACK")
    await begun
    await connection.cursor().execute("INSERT INTO t VALUES (1)")
    await connection.commit()
    assert other.execute("SELECT i FROM t").fetchall() == [(1,)]
    other.close()


async def test_what_is_asked_later_is_done_later(connection: SqliteConnection) -> None:
    long = asyncio.create_task(rows_of(connection, LONG))
    await asyncio.sleep(0)
    await connection.cursor().execute("INSERT INTO t VALUES (1)")
    assert long.done()


async def test_an_error_of_a_statement_is_told_and_leaves_the_connection_usable(
    connection: SqliteConnection,
) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await connection.cursor().execute("SELECT * FROM nowhere")
    assert await rows_of(connection, "SELECT 1") == [(1,)]


async def test_a_closed_connection_says_so(tmp_path: Path) -> None:
    connection = await SqliteConnection(str(tmp_path / "b.db"), timeout=1.0).open()
    await connection.close()
    await connection.close()
    with pytest.raises(ValueError, match="closed"):
        await connection.cursor().execute("SELECT 1")
