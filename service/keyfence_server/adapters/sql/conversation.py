"""One connection with the database, and the statements that are sent over it.

Statements that are composed for one question go through SQLAlchemy. `ReadyStatement`s go to the
driver directly, in the same transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Protocol, Self, TypeVar, cast

import asyncpg
from sqlalchemy import CursorResult, Dialect
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.sql import Executable

from keyfence_server.adapters.sql.completion import to_completion
from keyfence_server.adapters.sql.engines import pool_state_of
from keyfence_server.adapters.sql.errors import (
    OnError,
    StoreFault,
    is_overtaken_by_migration,
    means_lost_connection,
    translated,
)
from keyfence_server.adapters.sql.ready import ReadyStatement
from keyfence_server.adapters.sql.sqlite_connection import SqliteConnection
from keyfence_server.application.ports import StoreUnavailable

T = TypeVar("T")

Row = Sequence[Any]

_PLAN_FOR_VALUES: Final = "SET LOCAL plan_cache_mode = force_custom_plan"
_BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"
_LOCK_HEAD: Final = "SELECT FROM head FOR UPDATE"
_TRY_HEAD: Final = "SELECT FROM head FOR UPDATE SKIP LOCKED"
# PostgreSQL gives the first transaction that waits for a row a lock of type "tuple". While there is
# one, this statement does not take the head, even in the moment when its lock is released.
_TRY_HEAD_AGAIN: Final = """
    SELECT FROM head WHERE NOT EXISTS (
        SELECT FROM pg_locks WHERE locktype = 'tuple' AND relation = 'head'::regclass
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ) FOR UPDATE SKIP LOCKED
"""
_NOT_LOCKED: Final = "SELECT 0"
_RETRY_SECONDS: Final = 0.005
_YIELDS_SECONDS: Final = 0.25
"""How long a transaction that is not urgent leaves the lock to others."""


class DriverConnection(Protocol):
    """The operations that both drivers have. Each driver raises its own errors."""

    async def begin(self) -> None:
        """Begins a transaction that may write."""

    async def begin_with_head(self, is_urgent: Callable[[], bool]) -> None:
        """Begins a transaction that has the lock on the head before it reads anything.

        Args:
            is_urgent: whether it goes before those that are not; asked again while it waits.
        """

    async def commit(self) -> None:
        """Commits it."""

    async def rollback(self) -> None:
        """Undoes it."""

    async def fetch(self, statement: str, values: Row) -> Sequence[Row]:
        """Executes a statement, and returns its rows."""

    async def write(self, statement: str, values: Row) -> int:
        """Executes a statement, and returns how many rows it has touched."""

    async def write_each(self, statement: str, rows: Sequence[Row]) -> None:
        """Executes a statement with each of the rows."""

    async def insert_rows(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Adds many rows to a table, in the way that is the fastest for the database."""


class Conversation:
    """A connection of a pool.

    Attributes:
        connection: SQLAlchemy's connection.
        dialect: SQLAlchemy's, of the database.
    """

    def __init__(self, connection: AsyncConnection, driver: DriverConnection) -> None:
        self.connection = connection
        self.dialect: Dialect = connection.dialect
        self._driver = driver
        self._is_lost = False
        self._directly = OnError(self._note_error)

    @classmethod
    async def open(cls, engine: AsyncEngine) -> Self:
        """Takes a connection from the pool. Raises `StoreUnavailable`."""
        with translated():
            connection = await engine.connect()
            try:
                driver = (await connection.get_raw_connection()).driver_connection
            except BaseException:
                await to_completion(connection.close())
                raise
        if isinstance(driver, SqliteConnection):
            return cls(connection, driver)
        return cls(connection, _OnPostgresql(cast("asyncpg.Connection", driver)))

    @property
    def is_lost(self) -> bool:
        """Whether the connection cannot be used any more. The database has undone what was begun on
        it."""
        return self._is_lost or self.connection.invalidated

    async def execute(
        self,
        statement: Executable,
        parameters: Mapping[str, object] | Sequence[Mapping[str, object]] | None = None,
    ) -> CursorResult[Any]:
        """Executes a statement through SQLAlchemy."""
        return await self.connection.execute(statement, parameters)

    async def fetch(
        self, statement: ReadyStatement, values: Mapping[str, object] | None = None
    ) -> Sequence[Row]:
        """The rows of a statement, as the driver has them."""
        ready = statement.on(self.dialect)
        with self._directly:
            return await self._driver.fetch(ready.text, ready.values(values or {}))

    async def plan_for_values(self) -> None:
        """Has PostgreSQL plan what follows in the transaction for its values. A plan for any values
        takes all values of a column to be about as frequent."""
        if self.dialect.name == "postgresql":
            with self._directly:
                await self._driver.fetch(_PLAN_FOR_VALUES, ())

    async def close(self) -> None:
        """Rolls back what the engine has begun, and gives the connection back or up."""
        try:
            with translated():
                if self.is_lost and not self.connection.invalidated:
                    await self.connection.invalidate()
                await self.connection.close()
        except StoreUnavailable:
            # The rollback could not be sent. Closing the connection rolls back.
            with suppress(StoreUnavailable), translated():
                if not self.connection.closed:
                    await self.connection.invalidate()
                    await self.connection.close()

    def _note_error(self, error: BaseException) -> None:
        # As SQLAlchemy sees it: what was cancelled may have left the connection anywhere.
        if not isinstance(error, Exception):
            self._is_lost = True
        elif means_lost_connection(error) or is_overtaken_by_migration(error):
            self._is_lost = True
            pool_state_of(self.connection.engine).age()


class DirectConversation(Conversation):
    """A connection whose transactions are begun here and not by the engine.

    Attributes:
        has_begun: whether a transaction is under way.
    """

    def __init__(self, connection: AsyncConnection, driver: DriverConnection) -> None:
        super().__init__(connection, driver)
        self.has_begun = False

    async def fetch_text(self, statement: str, values: Row) -> Sequence[Row]:
        """The rows of a statement that is as the driver takes it."""
        with self._directly:
            return await self._driver.fetch(statement, values)

    async def write(
        self, statement: ReadyStatement, values: Mapping[str, object] | None = None
    ) -> int:
        """Executes a statement, and returns how many rows it has touched."""
        return await self.write_values(statement, statement.on(self.dialect).values(values or {}))

    async def write_values(self, statement: ReadyStatement, values: Row) -> int:
        """Executes a statement whose values are in order, and as the driver takes them."""
        with self._directly:
            return await self._driver.write(statement.on(self.dialect).text, values)

    async def write_each(
        self, statement: ReadyStatement, rows: Sequence[Mapping[str, object]]
    ) -> None:
        """Executes a statement with each of the rows."""
        if len(rows) == 1:
            await self.write(statement, rows[0])
            return
        ready = statement.on(self.dialect)
        with self._directly:
            await self._driver.write_each(ready.text, [ready.values(row) for row in rows])

    async def insert_rows(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Adds many rows to a table. Their values are as the driver takes them."""
        with self._directly:
            await self._driver.insert_rows(table, columns, rows)

    async def begin(self, is_urgent: Callable[[], bool] | None = None) -> None:
        """Begins a transaction that may write. With `is_urgent`, it has the lock on the head."""
        with self._directly:
            if is_urgent is None:
                await self._driver.begin()
            else:
                await self._driver.begin_with_head(is_urgent)
        self.has_begun = True

    async def commit(self) -> None:
        """Commits it."""
        with self._directly:
            await self._driver.commit()
        self.has_begun = False

    async def rollback(self) -> None:
        """Undoes it."""
        with self._directly:
            await self._driver.rollback()
        self.has_begun = False

    def give_up(self) -> None:
        """Has the connection closed at the end, instead of being used again."""
        self._is_lost = True


class Bookkeep(Protocol):
    """Does work in a transaction of its own, without the lock on the head, and commits. Once begun
    it is carried through. Raises `StoreUnavailable`."""

    def __call__(self, work: Callable[[DirectConversation], Awaitable[T]], /) -> Awaitable[T]:
        """Does the work."""


class Writer:
    """The connection on which a process writes: one transaction at a time.

    It stays open between the transactions. To take a connection from a pool and to give it back
    would take as long as several statements.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._idle: DirectConversation | None = None
        self._is_closed = False

    @asynccontextmanager
    async def transaction(
        self, is_urgent: Callable[[], bool] | None = None
    ) -> AsyncIterator[DirectConversation]:
        """A transaction, which is undone unless it is committed. Raises `StoreUnavailable`.

        Args:
            is_urgent: see `DriverConnection`. None: without the lock on the head.
        """
        conversation = await self._begin(is_urgent)
        try:
            yield conversation
        finally:
            await to_completion(self._end(conversation))

    async def close(self) -> None:
        """Closes the connection, at the end of the transaction that is under way."""
        self._is_closed = True
        if self._idle is not None:
            conversation, self._idle = self._idle, None
            await conversation.close()

    async def _begin(self, is_urgent: Callable[[], bool] | None) -> DirectConversation:
        was_idle = self._idle is not None
        conversation = self._idle or await DirectConversation.open(self._engine)
        self._idle = None
        try:
            with translated():
                await conversation.begin(is_urgent)
        except BaseException as error:
            was_lost = conversation.is_lost and isinstance(error, StoreUnavailable)
            # It may have begun, and not have the lock.
            conversation.give_up()
            await to_completion(conversation.close())
            if not (was_idle and was_lost):
                raise
        else:
            return conversation
        # It died while it was idle. This is how the store heals after the database was restarted.
        return await self._begin(is_urgent)

    async def _end(self, conversation: DirectConversation) -> None:
        if conversation.has_begun and not conversation.is_lost:
            try:
                with translated():
                    await conversation.rollback()
            except (StoreUnavailable, StoreFault):
                # Closing the connection rolls back.
                conversation.give_up()
        if self._is_closed:
            conversation.give_up()
        if conversation.is_lost:
            await conversation.close()
        else:
            self._idle = conversation


class _OnPostgresql:
    """Implements `DriverConnection` on a connection of `asyncpg`."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def begin(self) -> None:
        await self._connection.execute(_BEGIN)

    async def begin_with_head(self, is_urgent: Callable[[], bool]) -> None:
        """What later statements read, they read after the lock was taken.

        A transaction that is not urgent does not wait in PostgreSQL's line for the lock. It tries
        again, and leaves the lock to those in the line, for a while.
        """
        begin = _LOCK_HEAD if is_urgent() else _TRY_HEAD
        status = await self._connection.execute(f"{_BEGIN}; {begin}")
        loop = asyncio.get_running_loop()
        in_line_at = loop.time() + _YIELDS_SECONDS
        while begin is not _LOCK_HEAD and status == _NOT_LOCKED:
            await asyncio.sleep(_RETRY_SECONDS)
            begin = _LOCK_HEAD if is_urgent() or loop.time() > in_line_at else _TRY_HEAD_AGAIN
            status = await self._connection.execute(begin)

    async def commit(self) -> None:
        await self._connection.execute("COMMIT")

    async def rollback(self) -> None:
        await self._connection.execute("ROLLBACK")

    async def fetch(self, statement: str, values: Row) -> Sequence[Row]:
        return cast("Sequence[Row]", await self._connection.fetch(statement, *values))

    async def write(self, statement: str, values: Row) -> int:
        # For example "INSERT 0 1" or "UPDATE 1".
        status = await self._connection.execute(statement, *values)
        count = status.rpartition(" ")[2]
        return int(count) if count.isdecimal() else 0

    async def write_each(self, statement: str, rows: Sequence[Row]) -> None:
        await self._connection.executemany(statement, rows)

    async def insert_rows(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        await self._connection.copy_records_to_table(table, columns=columns, records=rows)
