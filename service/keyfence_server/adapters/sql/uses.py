"""Writes the uses of keys, without the head's lock: they neither wait for mutations nor take a
revision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, case
from sqlalchemy.dialects import postgresql, sqlite

from keyfence_server.adapters.sql.conversation import DirectConversation
from keyfence_server.adapters.sql.ready import ReadyStatement
from keyfence_server.adapters.sql.schema import key_use_days, key_uses
from keyfence_server.application.ports import MAX_USE_COUNT, KeyUse, UseToAdd
from keyfence_server.domain.keys import KeyId

_Insert = postgresql.Insert | sqlite.Insert

_BATCH: Final = 1_000
"""Rows that are written at once."""


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
        statement = _ADD_TOTALS[conversation.dialect.name]
        await conversation.write_each(statement, totals[start : start + _BATCH])
    for start in range(0, len(by_day), _BATCH):
        statement = _ADD_DAYS[conversation.dialect.name]
        await conversation.write_each(statement, by_day[start : start + _BATCH])


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


def _add_totals(statement: _Insert) -> ReadyStatement:
    new = statement.excluded
    is_newer = new.last_used_time > key_uses.c.last_used_time
    return _adding(
        statement,
        {
            "use_count": _saturated(key_uses.c.use_count, new.use_count),
            "last_used_address": case(
                (is_newer, new.last_used_address), else_=key_uses.c.last_used_address
            ),
            "last_used_time": case((is_newer, new.last_used_time), else_=key_uses.c.last_used_time),
        },
    )


def _add_days(statement: _Insert) -> ReadyStatement:
    count = _saturated(key_use_days.c.use_count, statement.excluded.use_count)
    return _adding(statement, {"use_count": count})


def _adding(
    statement: _Insert, where_there_is_one: Mapping[str, ColumnElement[Any]]
) -> ReadyStatement:
    table = statement.table
    upsert = statement.on_conflict_do_update(
        index_elements=table.primary_key, set_=where_there_is_one
    )
    return ReadyStatement(upsert, sets=[column.name for column in table.c])


def _saturated(count: ColumnElement[int], more: ColumnElement[int]) -> ColumnElement[int]:
    """The sum, or the most that a count says. SQLite makes a floating-point number of a sum
    beyond 64 bits, and PostgreSQL refuses it together with every other row."""
    return case((count > MAX_USE_COUNT - more, MAX_USE_COUNT), else_=count + more)


# Both databases write ON CONFLICT alike. SQLAlchemy has an INSERT of its own for each.
_INSERTS: Final[Mapping[str, Callable[[Table], _Insert]]] = {
    "postgresql": postgresql.insert,
    "sqlite": sqlite.insert,
}
_ADD_TOTALS: Final = {name: _add_totals(insert(key_uses)) for name, insert in _INSERTS.items()}
_ADD_DAYS: Final = {name: _add_days(insert(key_use_days)) for name, insert in _INSERTS.items()}
