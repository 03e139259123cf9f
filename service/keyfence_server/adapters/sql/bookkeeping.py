"""Writes records that are not mutations: uses of keys, and the chain of audit events.

These writes do not lock the head row, so they neither wait for mutations nor take a
revision. The chain has its own head row. A mutation locks the chain's head last, so a
deadlock is impossible.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, bindparam, case, select, update
from sqlalchemy.dialects import postgresql, sqlite

from keyfence_server.adapters.sql.conversation import DirectConversation
from keyfence_server.adapters.sql.errors import StoreFault
from keyfence_server.adapters.sql.ready import ReadyStatement, insertion_into
from keyfence_server.adapters.sql.records import event_to_row
from keyfence_server.adapters.sql.schema import audit_events, audit_head, key_use_days, key_uses
from keyfence_server.application.audit_chain import chained
from keyfence_server.application.ports import (
    MAX_USE_COUNT,
    AuditEvent,
    ChainEnd,
    KeyUse,
    RecordedEvent,
    UseToAdd,
)
from keyfence_server.domain.keys import KeyId

_BATCH: Final = 1_000
"""Rows in a statement: both databases stop at about 32,000 parameters."""
_EVENTS_AT_ONCE: Final = 100
"""Audit events that are hashed and written before other calls have their turn."""

_END_OF_CHAIN: Final = ReadyStatement(
    select(audit_head.c.event_count, audit_head.c.hash).with_for_update()
)
_INSERT_EVENTS: Final = insertion_into(audit_events)
_MOVE_END: Final = ReadyStatement(
    update(audit_head).where(
        audit_head.c.event_count == bindparam("known_count"),
        audit_head.c.hash == bindparam("known_hash"),
    ),
    sets=["event_count", "hash"],
)


async def append_to_chain(
    conversation: DirectConversation,
    events: Sequence[tuple[int | None, AuditEvent]],
    known: ChainEnd | None = None,
) -> None:
    """Adds events to the chain, each with the revision that it tells of, in a transaction that
    the caller commits.

    Args:
        known: where the chain was seen to end. If it does not end there any more, its end is read.
    """
    if not events or (known is not None and await _append(conversation, events, known)):
        return
    heads = await conversation.fetch(_END_OF_CHAIN)
    if not heads or not await _append(conversation, events, ChainEnd(*heads[0])):
        raise StoreFault("the table audit_head has no row")


async def _append(
    conversation: DirectConversation, events: Sequence[tuple[int | None, AuditEvent]], end: ChainEnd
) -> bool:
    """Adds events if the chain ends here. To move the end locks it."""
    known = {"known_count": end.count, "known_hash": end.hash}
    recorded: list[RecordedEvent] = []
    for start in range(0, len(events), _EVENTS_AT_ONCE):
        if start:
            await asyncio.sleep(0)
        recorded += chained(end, events[start : start + _EVENTS_AT_ONCE])
        end = ChainEnd(recorded[-1].sequence, recorded[-1].hash)
    moved = {"event_count": end.count, "hash": end.hash, **known}
    if await conversation.write(_MOVE_END, moved) != 1:
        return False
    for start in range(0, len(recorded), _EVENTS_AT_ONCE):
        if start:
            await asyncio.sleep(0)
        some = recorded[start : start + _EVENTS_AT_ONCE]
        await conversation.write_each(_INSERT_EVENTS, [event_to_row(one) for one in some])
    return True


async def append_new_events(conversation: DirectConversation, events: Sequence[AuditEvent]) -> None:
    """Adds events that tell of no revision, in a transaction that the caller commits.

    Those that are in the chain already, because an earlier try was carried out after all, are
    not added again.
    """
    # The end of the chain is locked first, so no other writer adds them meanwhile.
    await conversation.fetch(_END_OF_CHAIN)
    present: set[str] = set()
    for start in range(0, len(events), _BATCH):
        ids = [event.event_id for event in events[start : start + _BATCH]]
        query = select(audit_events.c.event_id).where(audit_events.c.event_id.in_(ids))
        present |= set((await conversation.execute(query)).scalars())
    missing = [(None, event) for event in events if event.event_id not in present]
    await append_to_chain(conversation, missing)


async def add_uses(conversation: DirectConversation, uses: Sequence[UseToAdd]) -> None:
    """Adds uses, in a transaction that the caller commits."""
    # In one order everywhere, so that two servers cannot wait for each other.
    totals = [
        {
            "key_id": key_id,
            "last_used_time": use.last_used_time,
            "last_used_address": use.last_used_address,
            "use_count": use.count,
        }
        for key_id, use in sorted(_by_key(uses).items())
    ]
    days: Counter[tuple[str, str]] = Counter()
    for one in uses:
        days[one.key_id, one.day.isoformat()] += one.use.count
    by_day = [
        {"key_id": key_id, "day": day, "use_count": min(count, MAX_USE_COUNT)}
        for (key_id, day), count in sorted(days.items())
    ]
    for start in range(0, len(totals), _BATCH):
        await conversation.execute(_add_totals(conversation), totals[start : start + _BATCH])
    for start in range(0, len(by_day), _BATCH):
        await conversation.execute(_add_days(conversation), by_day[start : start + _BATCH])


def _by_key(uses: Sequence[UseToAdd]) -> dict[KeyId, KeyUse]:
    by_key: dict[KeyId, KeyUse] = {}
    for one in uses:
        known = by_key.get(one.key_id)
        if known is None:
            by_key[one.key_id] = one.use
            continue
        last = max(known, one.use, key=lambda use: use.last_used_time)
        count = min(known.count + one.use.count, MAX_USE_COUNT)
        by_key[one.key_id] = KeyUse(last.last_used_time, last.last_used_address, count)
    return by_key


def _insert(conversation: DirectConversation, table: Any) -> Any:
    """An INSERT that knows ON CONFLICT, which both databases write alike."""
    if conversation.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def _add_totals(conversation: DirectConversation) -> Any:
    statement = _insert(conversation, key_uses)
    new = statement.excluded
    is_newer = new.last_used_time > key_uses.c.last_used_time
    return statement.on_conflict_do_update(
        index_elements=[key_uses.c.key_id],
        set_={
            "use_count": _saturated(key_uses.c.use_count, new.use_count),
            "last_used_address": case(
                (is_newer, new.last_used_address), else_=key_uses.c.last_used_address
            ),
            "last_used_time": case((is_newer, new.last_used_time), else_=key_uses.c.last_used_time),
        },
    )


def _add_days(conversation: DirectConversation) -> Any:
    statement = _insert(conversation, key_use_days)
    return statement.on_conflict_do_update(
        index_elements=[key_use_days.c.key_id, key_use_days.c.day],
        set_={"use_count": _saturated(key_use_days.c.use_count, statement.excluded.use_count)},
    )


def _saturated(count: ColumnElement[int], more: ColumnElement[int]) -> ColumnElement[int]:
    """The sum, or the most that a count says. SQLite makes a floating-point number of a sum
    beyond 64 bits, and PostgreSQL refuses it together with every other row."""
    return case((count > MAX_USE_COUNT - more, MAX_USE_COUNT), else_=count + more)
