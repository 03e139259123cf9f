"""Connections as the store wants them, for each database that it can stand on.

What differs between SQLite and PostgreSQL in transactions, durability and timeouts is
defined here, and nowhere else: the rest of the package holds an `Engines` and does not
ask which database is behind it.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
from asyncpg.connect_utils import SessionAttribute
from sqlalchemy import Connection, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from keyfence_server.adapters.sql.errors import StoreFault, means_lost_connection
from keyfence_server.adapters.sql.sqlite_connection import SqliteConnection
from keyfence_server.adapters.sql.urls import DatabaseUrl, InvalidDatabaseUrl
from keyfence_server.application.ports import StoreUnavailable

_BEGIN: Final = "keyfence_begin"
_POOL_STATE: Final = "keyfence_pool_state"
_LOG_ATTEMPTS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """The timeouts of the store, and the number of its connections.

    Attributes:
        pool_size: the most connections at once, two at least. All but one are for reading: a
            process mutates one thing at a time.
        connect_timeout: for a new connection, and for one from the pool.
        lock_timeout: for the turn to mutate.
        statement_timeout: for one statement.
        idle_timeout: after which PostgreSQL takes the head's lock away from a process
            that holds it and says nothing any more.
    """

    pool_size: int = 10
    connect_timeout: timedelta = timedelta(seconds=5)
    lock_timeout: timedelta = timedelta(seconds=5)
    statement_timeout: timedelta = timedelta(seconds=10)
    idle_timeout: timedelta = timedelta(seconds=30)

    @property
    def for_reading(self) -> int:
        """How many of the connections are not for mutations."""
        return max(1, self.pool_size - 1)


@dataclass(frozen=True, slots=True)
class Engines:
    """A pool of connections by what they are for, and a connection on which mutations are written.

    Attributes:
        reading: begins transactions that see one moment and cannot write.
        writing: begins transactions that see everything committed before they locked
            the head.
        direct: one connection of its own, on which the store itself begins such transactions.
        asking: for single statements that read. It begins no transaction, so each of them sees a
            moment of its own.
        embedded: whether the database is ours alone, to upgrade without being asked.
    """

    reading: AsyncEngine
    writing: AsyncEngine
    direct: AsyncEngine
    asking: AsyncEngine | LoneReader
    embedded: bool

    async def dispose(self) -> None:
        """Closes every connection."""
        if isinstance(self.asking, LoneReader):
            await self.asking.close()
        await self.direct.dispose()
        await self.writing.dispose()


class PoolState:
    """Which connections of a pool are too old to be used.

    SQLAlchemy finds out by its own statements that the server was lost, or that a table was altered
    behind the statements that connections have prepared. Other statements note it here.
    """

    def __init__(self) -> None:
        self._generation = 0

    def age(self) -> None:
        """Makes every connection that is there now too old."""
        self._generation += 1

    def stamp(self, _: object, entry: ConnectionPoolEntry) -> None:
        """Called when a connection was made."""
        entry.info[_POOL_STATE] = self._generation

    def require_young(self, _: object, entry: ConnectionPoolEntry, *__: object) -> None:
        """Called when a connection is taken from the pool. The error makes the pool replace it."""
        if entry.info[_POOL_STATE] != self._generation:
            raise DisconnectionError


def pool_state_of(engine: AsyncEngine) -> PoolState:
    """What is known of the engine's pool."""
    state: PoolState = engine.get_execution_options()[_POOL_STATE]
    return state


class LoneReader:
    """A SQLite connection outside the pool, for single statements that read.

    A look-up by an index takes SQLite some fifty microseconds. A connection of the pool, with
    SQLAlchemy around it, adds ten times that.
    """

    def __init__(self, connect: Callable[[], Awaitable[SqliteConnection]]) -> None:
        self._connect = connect
        # A reading in slices that goes on beside another one on the thread would stop the process:
        # SQLite has a lock for the connection, and each would wait for what the other holds.
        self._one_at_a_time = asyncio.Lock()
        self._connection: SqliteConnection | None = None

    async def fetch(self, statement: str, values: Sequence[Any]) -> list[Any]:
        """The rows of a statement. Raises `sqlite3.Error`."""
        async with self._one_at_a_time:
            if self._connection is None:
                self._connection = await self._connect()
            cursor = await self._connection.cursor().execute(statement, values)
            return await cursor.fetchall()

    async def close(self) -> None:
        """Closes the connection, if there is one."""
        if self._connection is not None:
            await self._connection.close()


def create_engines(url: DatabaseUrl, options: StoreOptions) -> Engines:
    """Engines on the database at `url`. Connects to nothing yet."""
    engines = _sqlite(url, options) if url.is_sqlite else _postgresql(url, options)
    for engine in (engines.writing, engines.direct):
        event.listen(engine.sync_engine, "handle_error", _give_up_lost_connections)
        state = pool_state_of(engine)
        event.listen(engine.sync_engine, "connect", state.stamp)
        event.listen(engine.sync_engine, "checkout", state.require_young)
    return engines


def _give_up_lost_connections(context: ExceptionContext) -> None:
    if means_lost_connection(context.original_exception):
        context.is_disconnect = True


def _pool(options: StoreOptions, size: int) -> dict[str, Any]:
    return {
        "execution_options": {_POOL_STATE: PoolState()},
        "pool_size": size,
        "max_overflow": 0,
        "pool_timeout": options.connect_timeout.total_seconds(),
        "hide_parameters": True,
    }


def _sqlite(url: DatabaseUrl, options: StoreOptions) -> Engines:
    _create_private(Path(url.path))

    async def connect(*_: object, **__: object) -> SqliteConnection:
        timeout = options.lock_timeout.total_seconds()
        return await SqliteConnection(url.path, timeout=timeout).open()

    def engine_of(connections: int) -> AsyncEngine:
        engine = create_async_engine(
            url.for_sqlalchemy(), async_creator=connect, **_pool(options, connections)
        )
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine

    engine, direct = engine_of(options.for_reading), engine_of(1)
    event.listen(direct.sync_engine, "connect", _make_room_for_many_changes)
    return Engines(
        reading=engine.execution_options(**{_BEGIN: "BEGIN"}),
        writing=engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}),
        direct=direct.execution_options(**{_BEGIN: ""}),
        asking=LoneReader(connect),
        embedded=True,
    )


def _create_private(path: Path) -> None:
    """Makes the file unreadable to others; SQLite gives its companions the same mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise InvalidDatabaseUrl(
            f"the database file {path} cannot be opened: {error.strerror}"
        ) from None


def _prepare_sqlite(connection: Any, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    _keep_a_log(cursor)
    # NORMAL would lose acknowledged mutations with the power; macOS needs to be asked
    # twice before it really writes.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA fullfsync = ON")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _make_room_for_many_changes(connection: Any, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    # A thousand imported keys change three thousand pages, many of them several times. A page that
    # finds no room in memory is written more than once, and so is one in each checkpoint.
    cursor.execute("PRAGMA cache_size = -16384")
    cursor.execute("PRAGMA wal_autocheckpoint = 4000")
    cursor.close()


def _keep_a_log(cursor: Any) -> None:
    """Turns on write-ahead logging, with which reading and writing go on side by side.

    The file remembers it, so this happens once in its life. When several processes make
    a new file at once, SQLite does not wait but refuses all but one of them, so a
    refused one waits for a lock that it does wait for, and looks again.
    """
    for _ in range(_LOG_ATTEMPTS):
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            if cursor.fetchone()[0] != "wal":
                raise StoreFault("SQLite cannot keep a write-ahead log where the file is")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            cursor.execute("BEGIN IMMEDIATE")
            cursor.execute("ROLLBACK")
        else:
            return
    raise StoreUnavailable(
        "the store does not answer: other processes keep the database file locked"
    )


def _begin_sqlite(connection: Connection) -> None:
    begin = connection.get_execution_options().get(_BEGIN, "BEGIN IMMEDIATE")
    if begin:
        connection.exec_driver_sql(begin)


PRIMARY: Final = SessionAttribute.primary
"""The only one to talk to, whichever servers the URL names."""

_SESSION_SETTINGS: Final = """
SELECT set_config('application_name',
                  coalesce(nullif(current_setting('application_name'), ''), 'keyfence'), false),
       set_config('timezone', 'UTC', false),
       set_config('statement_timeout', $1, false),
       set_config('lock_timeout', $2, false),
       set_config('idle_in_transaction_session_timeout', $3, false),
       -- "on" at least; a stronger setting is kept.
       set_config('synchronous_commit',
                  CASE current_setting('synchronous_commit')
                      WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)
"""


def _postgresql(url: DatabaseUrl, options: StoreOptions) -> Engines:
    async def connect() -> asyncpg.Connection:
        try:
            connection = await asyncpg.connect(
                url.for_asyncpg(),
                timeout=options.connect_timeout.total_seconds(),
                # The server's own timeouts end what is slow; this one ends what was
                # sent to a server that is not there any more.
                command_timeout=options.statement_timeout.total_seconds() + 1,
                # A standby can be behind, and what is read must not be.
                target_session_attrs=PRIMARY,
            )
        except asyncpg.TargetServerAttributeNotMatched:
            raise ConnectionError("none of the servers in the URL is a primary") from None
        except ValueError:
            raise InvalidDatabaseUrl(
                "the driver cannot read the PostgreSQL URL; check its host, port and parameters"
            ) from None
        try:
            await connection.fetchrow(
                _SESSION_SETTINGS,
                _milliseconds(options.statement_timeout),
                _milliseconds(options.lock_timeout),
                _milliseconds(options.idle_timeout),
            )
        except BaseException:
            connection.terminate()
            raise
        return connection

    def engine_of(connections: int) -> AsyncEngine:
        return create_async_engine(
            "postgresql+asyncpg://", async_creator=connect, **_pool(options, connections)
        )

    engine = engine_of(options.for_reading)
    return Engines(
        reading=engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        ),
        writing=engine.execution_options(isolation_level="READ COMMITTED"),
        direct=engine_of(1).execution_options(isolation_level="AUTOCOMMIT"),
        asking=engine.execution_options(isolation_level="AUTOCOMMIT"),
        embedded=False,
    )


def _milliseconds(duration: timedelta) -> str:
    return str(int(duration.total_seconds() * 1000))
