"""The register of server processes, in their store.

Every write is durable before it takes effect. If a crash of the database could undo a
renewal, a process could be struck off the register while its lease is still valid.
"""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from secrets import randbelow
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Select,
    Text,
    case,
    delete,
    exists,
    insert,
    literal_column,
    select,
    true,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from keyfence_server.adapters.sql import queries
from keyfence_server.adapters.sql.completion import to_completion
from keyfence_server.adapters.sql.engines import Engines
from keyfence_server.adapters.sql.errors import StoreFault, translated
from keyfence_server.adapters.sql.records import by_name
from keyfence_server.adapters.sql.schema import head, processes, settled_epochs
from keyfence_server.adapters.sql.timeline import TIMELINE
from keyfence_server.coherence.ports import (
    RegisteredProcess,
    RegisterState,
    StorePosition,
    StruckOff,
    TermsDiffer,
)
from keyfence_server.coherence.terms import LeaseTerms

_MOST_RENEWALS_AT_FIRST: Final = 1 << 40


class SqlRegister:
    """Implements the `Register` port on a SQL database."""

    def __init__(self, engines: Engines, committed: CommittedRegister | None = None) -> None:
        self._engines = engines
        self._committed = committed or CommittedRegister()

    async def join(self, process_id: str, display_name: str, terms: LeaseTerms) -> StorePosition:
        row = {
            "process_id": process_id,
            "display_name": display_name,
            "renewals": randbelow(_MOST_RENEWALS_AT_FIRST),
            "acknowledged": 0,
            "lease_seconds": terms.length,
            "clock_drift": terms.drift,
            "join_time": datetime.now(UTC),
        }
        async with self._transaction() as connection:
            # The lock comes first: a mutation in flight is waited for, and is in the head
            # that is read; one that begins later finds the row. It is not shared, so that of
            # two processes with different terms one finds the other.
            await connection.execute(select(head.c.revision).with_for_update())
            state = await self._state(connection)
            others = [one for one in state.processes if one.process_id != process_id]
            if differing := [one for one in others if not one.terms.agree_with(terms)]:
                raise TermsDiffer(terms, differing)
            await connection.execute(delete(processes).where(processes.c.process_id == process_id))
            await connection.execute(insert(processes).values(row))
        return state.position

    async def renew(self, process_id: str, acknowledged: int, epoch: str) -> StorePosition:
        known = processes.c.acknowledged
        async with self._transaction() as connection:
            # The connection ends with the timeline, so this holds until the commit.
            position = (await self._state(connection)).position
            if position.epoch != epoch:
                raise StruckOff(process_id)
            renewed = await connection.execute(
                update(processes)
                .where(processes.c.process_id == process_id)
                .values(
                    renewals=processes.c.renewals + 1,
                    acknowledged=case((known > acknowledged, known), else_=acknowledged),
                )
            )
            if renewed.rowcount != 1:
                raise StruckOff(process_id)
        return position

    async def leave(self, process_id: str) -> None:
        async with self._transaction() as connection:
            await connection.execute(delete(processes).where(processes.c.process_id == process_id))

    async def list_processes(self) -> list[RegisteredProcess]:
        return list((await self.read_state()).processes)

    async def read_state(self, committed: int | None = None) -> RegisterState:
        if committed is not None and (known := self._committed.take(committed)) is not None:
            return known
        engine = self._engines.reading if self._engines.embedded else self._engines.asking
        assert isinstance(engine, AsyncEngine)  # noqa: S101 - only SQLite has another asking
        with translated():
            # A statement alone sees one moment, and on PostgreSQL needs no transaction.
            async with engine.connect() as connection:
                return await self._state(connection)

    async def confirm(self) -> None:
        """See the port. Any commit does it: what is written to the log is, with all before it,
        where the settings want it when the commit returns."""
        if self._engines.embedded:
            # What can be read there is on the disk.
            return
        async with self._transaction() as connection:
            await connection.execute(update(head).values(revision=head.c.revision))

    async def settle(self, epoch: str) -> None:
        async with self._transaction() as connection:
            known = await connection.execute(
                select(settled_epochs).where(settled_epochs.c.epoch == epoch)
            )
            if known.first() is None:
                await connection.execute(insert(settled_epochs).values(epoch=epoch))

    async def strike_off(self, process_id: str, renewals: int) -> bool:
        async with self._transaction() as connection:
            struck = await connection.execute(
                delete(processes).where(
                    processes.c.process_id == process_id, processes.c.renewals == renewals
                )
            )
        return struck.rowcount == 1

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        """Commits at its end, except after an error."""
        with translated():
            connection = await self._engines.writing.connect()
            try:
                yield connection
                await connection.commit()
            finally:
                await to_completion(connection.close())

    async def _state(self, connection: AsyncConnection) -> RegisterState:
        # In an embedded database nothing fails over, and nothing is lost.
        query = _STATE_OF_EMBEDDED if self._engines.embedded else _STATE
        rows = (await connection.execute(query)).all()
        if not rows:
            raise StoreFault("the table head has no row")
        revision, epoch, is_settled = rows[0][:3]
        registered = (_process_of(row[3:]) for row in rows if row[3] is not None)
        return RegisterState(
            StorePosition(revision, epoch, is_settled=bool(is_settled)), tuple(registered)
        )


def _selected(epoch: ColumnElement[str], is_settled: ColumnElement[bool]) -> Select[Any]:
    """The position of the store beside each registered process, or alone if there is none."""
    query = select(head.c.revision, epoch, is_settled).add_columns(*_PROCESSES.selected_columns)
    query = query.select_from(head.outerjoin(processes, true()))
    return query.order_by(processes.c.process_id)


_PROCESSES: Final = queries.whole(processes)
_TIMELINE: Final = literal_column(f"({TIMELINE})", Text)
_STATE: Final = _selected(_TIMELINE, exists().where(settled_epochs.c.epoch == _TIMELINE))
_STATE_OF_EMBEDDED: Final = _selected(literal_column("''", Text), true())


@functools.lru_cache(maxsize=8)
def processes_in(document: str) -> tuple[RegisteredProcess, ...]:
    """The processes in a JSON list of rows. It is the same in many commits: the register changes
    when a process renews."""
    names = [column.name for column in processes.c]
    rows = ([row[name] for name in names] for row in json.loads(document))
    return tuple(sorted(map(_process_of, rows), key=lambda one: one.process_id))


class CommittedRegister:
    """The register as it was with the last commit of this process.

    It stands in for one that is read after the commit. A process that registered later has a head
    with the commit, and one that has left since is waited for until the register is read again.
    """

    def __init__(self) -> None:
        self._revision = 0
        self._state: RegisterState | None = None

    def note(self, revision: int, state: RegisterState) -> None:
        """Records what the transaction of a revision has read. It is committed."""
        self._revision, self._state = revision, state

    def take(self, revision: int) -> RegisterState | None:
        """What the transaction of a revision has read, once; None if that is not known."""
        state = self._state if self._revision == revision else None
        self._state = None
        return state


def _process_of(row: Sequence[Any]) -> RegisteredProcess:
    values = by_name(processes, row)
    terms = LeaseTerms(values.pop("lease_seconds"), values.pop("clock_drift"))
    return RegisteredProcess(**values, terms=terms)
