"""The `Store` port on a SQL database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Final, TypeVar

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.sql import Executable

from keyfence_server.adapters.sql import bookkeeping, migrations
from keyfence_server.adapters.sql.compiled_keyspaces import CompiledKeyspaces
from keyfence_server.adapters.sql.completion import to_completion
from keyfence_server.adapters.sql.engines import Engines, LoneReader, StoreOptions, create_engines
from keyfence_server.adapters.sql.errors import StoreFault, translated
from keyfence_server.adapters.sql.loading import Rows, load_keys
from keyfence_server.adapters.sql.reading import SqlSnapshot
from keyfence_server.adapters.sql.register import SqlRegister
from keyfence_server.adapters.sql.retention import SqlRetention
from keyfence_server.adapters.sql.schema import head
from keyfence_server.adapters.sql.set_up import SqlSetUp
from keyfence_server.adapters.sql.urls import parse_database_url
from keyfence_server.adapters.sql.writing import SqlTransaction
from keyfence_server.application.ports import (
    AuditEvent,
    LoadedKeys,
    Snapshot,
    StoreProblem,
    StoreUnavailable,
    Transaction,
    UseToAdd,
)
from keyfence_server.domain.secrets import Digest

T = TypeVar("T")

_DATABASE_TIME: Final = select(func.clock_timestamp())
_READ_HEAD: Final = select(head.c.revision)
# The lock comes with the first statement, so the order of revisions is the order of
# commits, and a revision that is rolled back is taken by the next mutation.
_ADVANCE_HEAD: Final = update(head).values(revision=head.c.revision + 1).returning(head.c.revision)


async def open_store(url: str, *, options: StoreOptions | None = None) -> SqlStore:
    """Opens the store at "sqlite:///path" or "postgresql://…".

    An embedded database is brought up to date on the way; a PostgreSQL one must be so
    already, because other processes may be using it.

    Raises:
        InvalidDatabaseUrl: no store can be at this address.
        StoreUnavailable: the database does not answer.
        SchemaMismatch: its tables are older or newer than this program.
    """
    options = options or StoreOptions()
    engines = create_engines(parse_database_url(url), options)
    try:
        if engines.embedded:
            await migrations.upgrade_engine(engines.writing)
        else:
            await migrations.require_current_engine(engines.reading)
    except BaseException:
        await to_completion(engines.dispose())
        raise
    return SqlStore(engines, turn_timeout=options.lock_timeout)


class SqlStore:
    """Keeps the `Store` port. Made by `open_store`.

    Args:
        turn_timeout: how long a write waits for the other writes of this process.
    """

    def __init__(self, engines: Engines, *, turn_timeout: timedelta) -> None:
        self._engines = engines
        self._turn_timeout = turn_timeout
        # One writer of this process at a time: a group of mutations, or a write-behind. A second
        # one waits here and not on a connection.
        self._turn = asyncio.Lock()
        self._compiled = CompiledKeyspaces()

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """See the port."""
        async with self._opened(self._engines.reading, _revision_by(_READ_HEAD)) as opened:
            connection, revision = opened
            yield SqlSnapshot(connection, revision, self._compiled)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """See the port."""
        await self._take_turn()
        try:
            async with self._opened(self._engines.writing, _revision_by(_ADVANCE_HEAD)) as opened:
                connection, revision = opened
                yield SqlTransaction(connection, revision, self._compiled)
        finally:
            self._turn.release()

    async def load_keys(self, questions: Sequence[Sequence[Digest]]) -> LoadedKeys:
        """See the port."""
        return await load_keys(questions, self._engines.reading.dialect, self._fetch)

    async def _fetch(self, statement: str, values: tuple[bytes, ...]) -> Rows:
        asking = self._engines.asking
        if isinstance(asking, LoneReader):
            with translated():
                return await asking.fetch(statement, values)

        async def fetch(connection: AsyncConnection) -> Rows:
            with translated():
                return (await connection.exec_driver_sql(statement, values)).all()

        async with self._opened(asking, fetch) as (_, rows):
            return rows

    def register(self) -> SqlRegister:
        """The register of the processes on this store."""
        return SqlRegister(self._engines)

    def set_up(self) -> SqlSetUp:
        """What the store remembers of how it was set up."""
        return SqlSetUp(self._engines)

    def retention(self) -> SqlRetention:
        """What the store keeps for a stated time. What is begun is carried through."""
        return SqlRetention(lambda write: to_completion(self._bookkeep(write)))

    async def add_uses(self, uses: Sequence[UseToAdd]) -> None:
        """See the port. Once begun it is carried through."""
        if uses:
            await to_completion(self._bookkeep(lambda on: bookkeeping.add_uses(on, uses)))

    async def append_events(self, events: Sequence[AuditEvent]) -> None:
        """See the port. Once begun it is carried through."""
        if events:
            await to_completion(
                self._bookkeep(lambda on: bookkeeping.append_new_events(on, events))
            )

    async def ping(self) -> None:
        """See the port."""
        async with self.snapshot():
            pass

    async def database_time(self) -> datetime | None:
        """The time of the database's own clock; None for an embedded database, which has none.

        Raises `StoreUnavailable`.
        """
        if self._engines.embedded:
            return None
        with translated():
            async with self._engines.reading.connect() as connection:
                moment: datetime = (await connection.execute(_DATABASE_TIME)).scalar_one()
        return moment

    async def require_writable(self) -> None:
        """Returns if the store can be written. Changes nothing. Raises `StoreUnavailable`."""
        await to_completion(self._bookkeep(_write_nothing_new))

    async def close(self) -> None:
        """See the port."""
        await to_completion(self._engines.dispose())

    async def _bookkeep(self, write: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        await self._take_turn()
        try:
            with translated():
                async with self._engines.writing.begin() as connection:
                    return await write(connection)
        finally:
            self._turn.release()

    async def _take_turn(self) -> None:
        try:
            async with asyncio.timeout(self._turn_timeout.total_seconds()):
                await self._turn.acquire()
        except TimeoutError:
            raise StoreUnavailable(
                "the store does not answer: other writes of this process took too long",
                problem=StoreProblem.BUSY,
            ) from None

    @asynccontextmanager
    async def _opened(
        self, engine: AsyncEngine, begin: Callable[[AsyncConnection], Awaitable[T]]
    ) -> AsyncIterator[tuple[AsyncConnection, T]]:
        """A connection, and what the first conversation on it has returned. What that has begun is
        rolled back unless committed."""
        connection, begun = await self._open(engine, begin)
        try:
            yield connection, begun
        finally:
            await to_completion(_closed(connection))

    async def _open(
        self,
        engine: AsyncEngine,
        begin: Callable[[AsyncConnection], Awaitable[T]],
        *,
        is_retry: bool = False,
    ) -> tuple[AsyncConnection, T]:
        with translated():
            connection = await engine.connect()
        try:
            return connection, await begin(connection)
        except BaseException as error:
            was_dead = connection.invalidated and isinstance(error, StoreUnavailable)
            await to_completion(_closed(connection))
            if is_retry or not was_dead:
                raise
        # The pool had a dead connection, and has dropped with it all that are as old.
        # Nothing was done on it yet, so a new one may try: this is how the store heals
        # after the database was restarted, without a ping before every use.
        return await self._open(engine, begin, is_retry=True)


def _revision_by(statement: Executable) -> Callable[[AsyncConnection], Awaitable[int]]:
    async def read(connection: AsyncConnection) -> int:
        with translated():
            revision = (await connection.execute(statement)).scalar_one_or_none()
        if revision is None:
            raise StoreFault("the table head has no row")
        return int(revision)

    return read


async def _write_nothing_new(connection: AsyncConnection) -> None:
    await connection.execute(update(head).values(revision=head.c.revision))


async def _closed(connection: AsyncConnection) -> None:
    """Rolls back what was not committed, and gives the connection back or up."""
    try:
        with translated():
            await connection.close()
    except StoreUnavailable:
        # The rollback could not be sent. Closing the connection rolls back.
        with suppress(StoreUnavailable), translated():
            if not connection.closed:
                await connection.invalidate()
                await connection.close()
