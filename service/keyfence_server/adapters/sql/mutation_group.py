"""Mutations that share a transaction on a locked head: each is kept or undone, and all are
committed at once.

What changes where is in `writing`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from enum import Enum
from typing import Any, Final, NamedTuple, Self

from sqlalchemy import CursorResult, RowMapping, Select, text, update
from sqlalchemy.sql import Executable

from keyfence_server.adapters.sql.audit_chain import append_to_chain
from keyfence_server.adapters.sql.closing import close
from keyfence_server.adapters.sql.compiled_keyspaces import CompiledKeyspaces
from keyfence_server.adapters.sql.completion import to_completion
from keyfence_server.adapters.sql.conversation import DirectConversation, Row
from keyfence_server.adapters.sql.deferred import DeferredWrite, DeferredWrites
from keyfence_server.adapters.sql.errors import OnError, StoreFault, raise_translated, translated
from keyfence_server.adapters.sql.locked import (
    OF_OTHER_ROWS,
    LockedSnapshot,
    position_in,
    read_opening,
)
from keyfence_server.adapters.sql.postgresql_feed import payloads_of
from keyfence_server.adapters.sql.ready import ReadyStatement, RowStatement, insertion_into
from keyfence_server.adapters.sql.records import changes_to_rows
from keyfence_server.adapters.sql.register import CommittedRegister
from keyfence_server.adapters.sql.schema import changes, head
from keyfence_server.application.audit_chain import chained
from keyfence_server.application.ports import (
    AuditEvent,
    ChainEnd,
    Change,
    CredentialId,
    StoreUnavailable,
    Wanted,
)
from keyfence_server.coherence.ports import RegisterState
from keyfence_server.domain.keys import KeyId, Lineage

_INSERT_CHANGES: Final = insertion_into(changes)
_SET_HEAD: Final = ReadyStatement(update(head), sets=["revision"])
# PostgreSQL and SQLite undo to the newest savepoint of a name. None is released before the
# commit: a group has few mutations. A mutation has one if something of it was sent.
_SAVE: Final = ReadyStatement(text("SAVEPOINT mutation"))
_UNDO: Final = ReadyStatement(text("ROLLBACK TO SAVEPOINT mutation"))


class _State(Enum):
    OPEN = "open"
    BROKEN = "broken by an earlier error, and can only be left"
    ENDED = "over"


class _Kept(NamedTuple):
    """A mutation that is part of the commit."""

    revision: int
    changes: tuple[Change, ...]
    event: AuditEvent


class MutationGroup(LockedSnapshot):
    """The mutations that share a transaction. Its opener rolls back what it did not commit.

    What a mutation adds to the tables of keys and requests, or replaces there, is deferred: to the
    commit, or until something is read that it could change.

    After any error it refuses to go on, until the mutation at fault is undone: PostgreSQL answers
    the COMMIT of a failed transaction with a rollback and no error, which would be taken for
    success.
    """

    def __init__(
        self,
        conversation: DirectConversation,
        revision: int,
        compiled: CompiledKeyspaces,
        end_of_chain: ChainEnd,
        register: CommittedRegister,
    ) -> None:
        super().__init__(conversation, revision, compiled)
        self._conversation: DirectConversation = conversation
        self._end_of_chain = end_of_chain
        self._register = register
        self._state = _State.OPEN
        self._kept: list[_Kept] = []
        self._has_written = False
        self._is_in_mutation = False
        self._is_saved = False
        self._deferred = DeferredWrites()
        self._each_step = OnError(self._break)

    @classmethod
    async def open(
        cls,
        conversation: DirectConversation,
        compiled: CompiledKeyspaces,
        register: CommittedRegister,
        wanted: Wanted,
    ) -> Self:
        """On a transaction that has the head's lock and has read nothing. Raises
        `StoreUnavailable`."""
        with translated():
            rows = await read_opening(conversation, wanted)
        head, end = position_in(rows)
        transaction = cls(conversation, head + 1, compiled, end, register)
        await transaction.take_in(rows, wanted)
        return transaction

    async def find_lineage(self, key_id: KeyId) -> Lineage | None:
        if self._deferred.concern((key_id,)):
            await self._write_deferred()
        lineage = await super().find_lineage(key_id)
        if lineage and self._deferred.concern(*((key.key_id,) for key in lineage)):
            await self._write_deferred()
            self._forget_keys()
            lineage = await super().find_lineage(key_id)
        return lineage

    async def find_request(self, caller: CredentialId, request_id: str) -> KeyId | None:
        if self._deferred.concern((caller, request_id)):
            await self._write_deferred()
        return await super().find_request(caller, request_id)

    async def _values(
        self, query: Select[Any] | ReadyStatement, parameters: Mapping[str, object] | None = None
    ) -> Sequence[Row]:
        if query not in OF_OTHER_ROWS:
            await self._write_deferred()
        return await super()._values(query, parameters)

    async def _rows(
        self, query: Select[Any], parameters: Mapping[str, object] | None = None
    ) -> Sequence[RowMapping]:
        await self._write_deferred()
        return await super()._rows(query, parameters)

    @property
    def revision(self) -> int:
        return self._revision + len(self._kept)

    @asynccontextmanager
    async def mutation(self) -> AsyncIterator[None]:
        kept = len(self._kept)
        self._has_written = self._is_saved = False
        self._is_in_mutation = True
        try:
            yield
            if len(self._kept) == kept and self._has_written:
                # What the database refuses is an error, though nothing is kept.
                await self._write_deferred()
        except BaseException as error:
            if kept:
                await self._recover(error)
            raise
        finally:
            self._is_in_mutation = False
        if len(self._kept) > kept:
            self._deferred.keep()
        elif self._has_written:
            if not kept:
                self._state = _State.BROKEN
                raise StoreFault("a mutation wrote to the store and recorded no change")
            await to_completion(self._undo())

    async def _recover(self, error: BaseException) -> None:
        """Undoes a mutation that failed behind others. Raises if that cannot be done."""
        can_go_on = self._state is _State.OPEN or self._is_saved
        if can_go_on and not self._conversation.is_lost:
            await to_completion(self._undo())
            return
        self._state = _State.BROKEN
        if isinstance(error, StoreFault):
            raise StoreFault("the mutations before it cannot be committed any more") from error
        if isinstance(error, Exception):
            raise StoreUnavailable("the mutations before it cannot be committed") from error

    def keep(self, changes: Sequence[Change], event: AuditEvent) -> int:
        if not changes:
            raise ValueError("a mutation that changes nothing has no revision")
        self._require_open()
        revision = self.revision
        self._kept.append(_Kept(revision, tuple(changes), event))
        return revision

    async def commit(self) -> int:
        """See the port. Once begun it is carried through, even if the caller is cancelled."""
        if not self._kept:
            raise ValueError("there is nothing to commit")
        return await to_completion(self._commit())

    async def _commit(self) -> int:
        last, register = self._kept[-1].revision, None
        with self._step():
            if self._conversation.dialect.name == "postgresql":
                register = await self._write_at_once(last)
            else:
                await self._write_in_turn(last)
            await self._conversation.commit()
        self._state = _State.ENDED
        if register is not None:
            self._register.note(last, register)
        return last

    async def _write_at_once(self, last: int) -> RegisterState:
        """Writes all that is left to write, and returns the register as it is."""
        events = [(one.revision, one.event) for one in self._kept]
        rows = [row for one in self._kept for row in changes_to_rows(one.changes, one.revision)]
        ready = _INSERT_CHANGES.on(self._conversation.dialect)
        writes = [
            *self._deferred.take_kept(),
            *(DeferredWrite(_INSERT_CHANGES, ready.values(row), ()) for row in rows),
        ]
        closed = await close(
            self._conversation,
            head=(_SET_HEAD, last),
            events=list(chained(self._end_of_chain, events)),
            known_end=self._end_of_chain,
            writes=writes,
            payloads=payloads_of([(one.revision, one.changes) for one in self._kept]),
        )
        for touched, expected in closed.touched:
            self._require_touched(expected, touched)
        if not closed.has_added_events:
            await append_to_chain(self._conversation, events)
        return closed.register

    async def _write_in_turn(self, last: int) -> None:
        """Writes all that is left to write, on SQLite, where a statement costs little."""
        conversation = self._conversation
        for one in self._deferred.take_kept():
            await self._write_one(one)
        if last != self._revision:
            await conversation.write(_SET_HEAD, {"revision": last})
        rows = [row for one in self._kept for row in changes_to_rows(one.changes, one.revision)]
        await conversation.write_each(_INSERT_CHANGES, rows)
        events = [(one.revision, one.event) for one in self._kept]
        await append_to_chain(conversation, events, self._end_of_chain)

    async def _defer(self, statement: RowStatement, row: dict[str, object], *row_id: str) -> None:
        """Leaves what touches one row to the commit, or to what must see it."""
        if not self._is_in_mutation:
            await self._touch_one(statement, row)
            return
        self._require_open()
        with translated():
            values = statement.on(self._conversation.dialect).values(row)
        if self._deferred.concern(row_id):
            await self._write_deferred()
        self._deferred.add(DeferredWrite(statement, values, row_id))
        self._has_written = True

    async def _write_deferred(self) -> None:
        """Writes what was deferred. After this the mutation at hand can be undone."""
        for one in self._deferred.take_kept():
            await self._write_one(one)
        if self._is_in_mutation and self._kept and not self._is_saved:
            with self._step():
                await self._conversation.write(_SAVE)
            self._is_saved = True
        for one in self._deferred.take_at_hand():
            await self._write_one(one)

    async def _write_one(self, one: DeferredWrite) -> None:
        with self._step():
            touched = await self._conversation.write_values(one.statement, one.values)
        self._require_touched(1, touched)

    async def _undo(self) -> None:
        """Undoes what was written since the savepoint. It also heals PostgreSQL's transaction,
        which takes no statement after an error."""
        self._deferred.drop()
        if self._has_written:
            self._forget_all()
        if self._is_saved:
            self._state = _State.OPEN
            await self._write(_UNDO)

    async def _touch_one(self, statement: ReadyStatement, row: dict[str, object]) -> None:
        """Executes what must touch one row, and breaks the transaction if it did not."""
        self._require_touched(1, await self._write(statement, row))

    async def _touch(self, count: int, statement: Executable) -> None:
        self._require_touched(count, (await self._execute(statement)).rowcount)

    def _require_touched(self, count: int, touched: int) -> None:
        if touched != count:
            self._state = _State.BROKEN
            raise StoreFault(f"{count} rows were to be touched, and {touched} were")

    async def _write(self, statement: ReadyStatement, row: dict[str, object] | None = None) -> int:
        if statement is not _UNDO:
            await self._write_deferred()
        with self._step():
            touched = await self._conversation.write(statement, row)
        if touched != 0:
            self._has_written = True
        return touched

    async def _execute(
        self, statement: Executable, rows: dict[str, object] | list[dict[str, object]] | None = None
    ) -> CursorResult[Any]:
        await self._write_deferred()
        with self._step():
            result = await self._conversation.execute(statement, rows)
        if result.rowcount != 0:
            self._has_written = True
        return result

    def _step(self) -> AbstractContextManager[None]:
        self._require_open()
        return self._each_step

    def _break(self, error: BaseException) -> None:
        self._state = _State.BROKEN
        raise_translated(error)

    def _require_open(self) -> None:
        if self._state is not _State.OPEN:
            raise StoreFault(f"the transaction is {self._state.value}")
