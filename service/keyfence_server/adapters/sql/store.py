"""The `Store` port on a SQL database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Final, TypeVar

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from keyfence_server.adapters.sql import migrations
from keyfence_server.adapters.sql.audit_chain import append_new_events
from keyfence_server.adapters.sql.compiled_keyspaces import CompiledKeyspaces
from keyfence_server.adapters.sql.completion import to_completion
from keyfence_server.adapters.sql.conversation import Conversation, DirectConversation, Row, Writer
from keyfence_server.adapters.sql.engines import Engines, LoneReader, StoreOptions, create_engines
from keyfence_server.adapters.sql.errors import StoreFault, translated
from keyfence_server.adapters.sql.loading import Rows, load_keys
from keyfence_server.adapters.sql.reading import SqlSnapshot
from keyfence_server.adapters.sql.register import CommittedRegister, SqlRegister
from keyfence_server.adapters.sql.retention import SqlRetention
from keyfence_server.adapters.sql.schema import head
from keyfence_server.adapters.sql.set_up import SqlSetUp
from keyfence_server.adapters.sql.urls import parse_database_url
from keyfence_server.adapters.sql.uses import add_uses
from keyfence_server.adapters.sql.writing import SqlTransaction
from keyfence_server.application.ports import (
    AuditEvent,
    LoadedKeys,
    Snapshot,
    StoreProblem,
    StoreUnavailable,
    Transaction,
    UseToAdd,
    Wanted,
    not_urgent,
)
from keyfence_server.domain.secrets import Digest

T = TypeVar("T")

_DATABASE_TIME: Final = select(func.clock_timestamp())
_READ_HEAD: Final = select(head.c.revision)


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
    return SqlStore(engines, write_lock_timeout=options.lock_timeout)


class SqlStore:
    """Implements the `Store` port. Made by `open_store`.

    Args:
        write_lock_timeout: how long a write waits for the other writes of this process.
    """

    def __init__(self, engines: Engines, *, write_lock_timeout: timedelta) -> None:
        self._engines = engines
        self._write_lock_timeout = write_lock_timeout
        # One writer of this process at a time: a group of mutations, or a write-behind. A second
        # one waits here and not on a connection.
        self._write_lock = asyncio.Lock()
        self._writer = Writer(engines.direct)
        self._compiled = CompiledKeyspaces()
        self._committed = CommittedRegister()

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        async with self._opened(self._engines.reading, _read_head) as (conversation, revision):
            yield SqlSnapshot(conversation, revision, self._compiled)

    @asynccontextmanager
    async def transaction(
        self,
        wanted: Callable[[], Wanted] = Wanted,
        is_urgent: Callable[[], bool] = not_urgent,
    ) -> AsyncIterator[Transaction]:
        await self._take_write_lock()
        try:
            # The lock comes first, so the order of revisions is the order of commits, and a
            # revision that is rolled back is taken by the next mutation.
            async with self._writer.transaction(is_urgent) as conversation:
                yield await SqlTransaction.open(
                    conversation, self._compiled, self._committed, wanted()
                )
        finally:
            self._write_lock.release()

    async def load_keys(self, questions: Sequence[Sequence[Digest]]) -> LoadedKeys:
        return await load_keys(questions, self._engines.reading.dialect, self._fetch)

    async def _fetch(self, statement: str, values: tuple[bytes, ...]) -> Rows:
        asking = self._engines.asking
        if isinstance(asking, LoneReader):
            with translated():
                return await asking.fetch(statement, values)

        async def fetch(conversation: Conversation) -> Rows:
            with translated():
                return (await conversation.connection.exec_driver_sql(statement, values)).all()

        async with self._opened(asking, fetch) as (_, rows):
            return rows

    def register(self) -> SqlRegister:
        """The register of the processes on this store."""
        return SqlRegister(self._engines, self._committed)

    def set_up(self) -> SqlSetUp:
        """What the store remembers of how it was set up."""
        return SqlSetUp(self._engines, self._bookkeep)

    def retention(self) -> SqlRetention:
        """What the store keeps for a stated time. What is begun is carried through."""
        return SqlRetention(self._bookkeep)

    async def add_uses(self, uses: Sequence[UseToAdd]) -> None:
        """See the port. Once begun it is carried through."""
        if uses:
            await self._bookkeep(lambda on: add_uses(on, uses))

    async def append_events(self, events: Sequence[AuditEvent]) -> None:
        """See the port. Once begun it is carried through."""
        if events:
            await self._bookkeep(lambda on: append_new_events(on, events))

    async def ping(self) -> None:
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
        await self._bookkeep(_write_nothing_new)

    async def close(self) -> None:
        """See the port. A write that is under way ends before, if it does so in the time for which
        another write would wait."""
        await to_completion(self._close())

    async def _close(self) -> None:
        with suppress(StoreUnavailable):
            await self._take_write_lock()
            self._write_lock.release()
        await self._writer.close()
        await self._engines.dispose()

    async def _bookkeep(self, work: Callable[[DirectConversation], Awaitable[T]]) -> T:
        return await to_completion(self._in_transaction(work))

    async def _in_transaction(self, work: Callable[[DirectConversation], Awaitable[T]]) -> T:
        await self._take_write_lock()
        try:
            async with self._writer.transaction() as conversation:
                with translated():
                    result = await work(conversation)
                    await conversation.commit()
                return result
        finally:
            self._write_lock.release()

    async def _take_write_lock(self) -> None:
        try:
            async with asyncio.timeout(self._write_lock_timeout.total_seconds()):
                await self._write_lock.acquire()
        except TimeoutError:
            raise StoreUnavailable(
                "the store does not answer: other writes of this process took too long",
                problem=StoreProblem.BUSY,
            ) from None

    @asynccontextmanager
    async def _opened(
        self, engine: AsyncEngine, begin: Callable[[Conversation], Awaitable[T]]
    ) -> AsyncIterator[tuple[Conversation, T]]:
        """A connection, and what the first statement on it has returned."""
        conversation, begun = await self._open(engine, begin)
        try:
            yield conversation, begun
        finally:
            await to_completion(conversation.close())

    async def _open(
        self,
        engine: AsyncEngine,
        begin: Callable[[Conversation], Awaitable[T]],
        *,
        is_retry: bool = False,
    ) -> tuple[Conversation, T]:
        conversation = await Conversation.open(engine)
        try:
            return conversation, await begin(conversation)
        except BaseException as error:
            was_dead = conversation.is_lost and isinstance(error, StoreUnavailable)
            await to_completion(conversation.close())
            if is_retry or not was_dead:
                raise
        # The pool had a dead connection, and has dropped with it all that are as old.
        # Nothing was done on it yet, so a new one may try: this is how the store heals
        # after the database was restarted, without a ping before every use.
        return await self._open(engine, begin, is_retry=True)


async def _read_head(conversation: Conversation) -> int:
    with translated():
        # Through SQLAlchemy, which begins the transaction.
        return _revision_in((await conversation.execute(_READ_HEAD)).all())


def _revision_in(rows: Sequence[Row]) -> int:
    if not rows:
        raise StoreFault("the table head has no row")
    return int(rows[0][0])


async def _write_nothing_new(conversation: DirectConversation) -> None:
    await conversation.execute(update(head).values(revision=head.c.revision))
