"""The `RetentionStore` port: removes what is no longer kept.

A row is selected by an index and removed by its primary key. Two servers that remove at the same
time skip each other's rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, Table, delete, func, select, tuple_, update

from keyfence_server.adapters.sql.audit_chain import append_to_chain
from keyfence_server.adapters.sql.conversation import Bookkeep, DirectConversation
from keyfence_server.adapters.sql.errors import StoreFault
from keyfence_server.adapters.sql.records import row_to_cut, row_to_event
from keyfence_server.adapters.sql.schema import (
    audit_cut,
    audit_events,
    audit_head,
    changes,
    head,
    key_use_days,
    processes,
    requests,
    sessions,
)
from keyfence_server.application.audit_chain import follow
from keyfence_server.application.ports import (
    ROWS_AT_ONCE,
    AuditCut,
    AuditEvent,
    ChainBroken,
    ChainEnd,
)

# Events that are hashed on the event loop before other calls have their turn.
_EVENTS_A_TURN: Final = 20

_END_OF_CHAIN: Final = select(audit_head).with_for_update()
_CUT: Final = select(audit_cut)
_SEQUENCE: Final = audit_events.c.sequence


class SqlRetention:
    """Implements the `RetentionStore` port."""

    def __init__(self, bookkeep: Bookkeep) -> None:
        self._bookkeep = bookkeep

    async def record_export(self, after: int, end: ChainEnd, event: AuditEvent) -> ChainEnd:
        async def record(conversation: DirectConversation) -> ChainEnd:
            count, cut = await _locked(conversation)
            if end.count <= cut.removed.count:
                _require(end.count < cut.removed.count or end == cut.removed, _ANOTHER)
                return cut.exported
            known = max(cut.exported.count, cut.removed.count)
            _require(after <= known, f"events {known + 1} to {after} were not exported")
            _require(end.count <= count, f"there is no event {end.count}")
            query = select(audit_events.c.hash).where(audit_events.c.sequence == end.count)
            found = (await conversation.execute(query)).scalar_one_or_none()
            _require(found == end.hash, _ANOTHER)
            if end.count <= cut.exported.count:
                return cut.exported
            await conversation.execute(
                update(audit_cut).values(exported_count=end.count, exported_hash=end.hash)
            )
            await append_to_chain(conversation, [(None, event)])
            return end

        return await self._bookkeep(record)

    async def remove_events(
        self,
        *,
        before: datetime,
        unexported: bool,
        event_of: Callable[[int, ChainEnd, bool], AuditEvent],
    ) -> int:
        """See the port. The end of the chain is locked first, as each writer of events does."""

        async def remove(conversation: DirectConversation) -> int:
            count, cut = await _locked(conversation)
            last = count if unexported else cut.exported.count
            query = (
                select(audit_events)
                .where(cut.removed.count < _SEQUENCE, last >= _SEQUENCE)
                .order_by(_SEQUENCE)
                .limit(ROWS_AT_ONCE)
            )
            end = cut.removed
            for row in (await conversation.execute(query)).mappings():
                if row["time"] >= before:
                    break
                end, problem = follow(end, [row_to_event(row)])
                if problem:
                    raise ChainBroken(problem)
                if end.count % _EVENTS_A_TURN == 0:
                    await asyncio.sleep(0)
            events = end.count - cut.removed.count
            if not events:
                return 0
            first = cut.removed.count + 1
            removed = await conversation.execute(
                delete(audit_events).where(first <= _SEQUENCE, end.count >= _SEQUENCE)
            )
            if removed.rowcount != events:
                raise StoreFault(f"{events} events were to be removed, and {removed.rowcount} were")
            await conversation.execute(
                update(audit_cut).values(
                    removed_count=end.count, removed_hash=end.hash, removal_sequence=count + 1
                )
            )
            event = event_of(first, end, end.count <= cut.exported.count)
            await append_to_chain(conversation, [(None, event)])
            return events

        return await self._bookkeep(remove)

    async def remove_changes(self, *, kept: int, acknowledged: bool) -> int:
        """See the port. No process needs an older change: one that registers meanwhile begins at
        the head, and one that is not registered has no lease and must register first."""

        async def remove(conversation: DirectConversation) -> int:
            last = (await conversation.execute(select(head.c.revision))).scalar_one() - kept
            if acknowledged:
                query = select(func.min(processes.c.acknowledged))
                least = (await conversation.execute(query)).scalar_one_or_none()
                last = last if least is None else min(last, least)
            revision = changes.c.revision
            query = (
                select(revision)
                .where(revision <= last)
                .order_by(revision, changes.c.position)
                .limit(ROWS_AT_ONCE)
            )
            found = (await conversation.execute(query)).scalars().all()
            if not found:
                return 0
            # The last revision may have more changes. It is removed whole: with the next slice,
            # or with this one if it fills the slice by itself.
            is_whole = len(found) < ROWS_AT_ONCE or found[0] == found[-1]
            end = found[-1] if is_whole else found[-1] - 1
            removed = await conversation.execute(delete(changes).where(revision <= end))
            return removed.rowcount

        return await self._bookkeep(remove)

    async def remove_requests(self, before: datetime) -> int:
        return await self._remove(requests, requests.c.time < before, requests.c.time)

    async def remove_sessions(self, before: datetime) -> int:
        return await self._remove(sessions, sessions.c.expire_time < before, sessions.c.expire_time)

    async def remove_use_days(self, before: date) -> int:
        day = key_use_days.c.day
        return await self._remove(key_use_days, day < before.isoformat(), day)

    async def _remove(
        self, table: Table, which: ColumnElement[bool], order: ColumnElement[Any]
    ) -> int:
        key = tuple(table.primary_key.columns)
        oldest: Select[Any] = (
            select(*key)
            .where(which)
            .order_by(order)
            .limit(ROWS_AT_ONCE)
            .with_for_update(skip_locked=True)
        )
        chosen = tuple_(*key) if len(key) > 1 else key[0]

        async def remove(conversation: DirectConversation) -> int:
            removed = await conversation.execute(delete(table).where(chosen.in_(oldest)))
            return removed.rowcount

        return await self._bookkeep(remove)


_ANOTHER: Final = "the archive does not end with an event of this audit log"


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise ChainBroken(problem)


async def _locked(conversation: DirectConversation) -> tuple[int, AuditCut]:
    """Locks the end of the chain. Returns how many events were written, and the cut."""
    end = (await conversation.execute(_END_OF_CHAIN)).mappings().first()
    cut = (await conversation.execute(_CUT)).mappings().first()
    if end is None or cut is None:
        raise StoreFault("the table audit_head or audit_cut has no row")
    return end["event_count"], row_to_cut(cut)
