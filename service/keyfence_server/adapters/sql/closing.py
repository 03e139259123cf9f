"""The last statement of a transaction on PostgreSQL, which writes all that is left to write.

Each statement is a message to the database and an answer, and the head stays locked meanwhile. So
the rows, the changes, the audit events, the new head and the notifications are one statement. Its
parts do not see one another's rows, so each row is in one part only. The rows of a table are given
as arrays, a column each, so that their number does not change the statement.

The statement also reads the register. It has the head's lock, which a process takes to register.
So a process that is not found is given a head that has this transaction.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import JSON, Column, Dialect

from keyfence_server.adapters.sql.audit_chain import INSERT_EVENTS, MOVE_END, move_from
from keyfence_server.adapters.sql.conversation import DirectConversation, Row
from keyfence_server.adapters.sql.deferred import DeferredWrite
from keyfence_server.adapters.sql.postgresql_feed import CHANNEL
from keyfence_server.adapters.sql.ready import ReadyStatement, RowStatement
from keyfence_server.adapters.sql.records import event_to_row
from keyfence_server.adapters.sql.register import processes_in
from keyfence_server.adapters.sql.timeline import TIMELINE
from keyfence_server.application.ports import ChainEnd, RecordedEvent
from keyfence_server.coherence.ports import RegisterState, StorePosition

_PLACE: Final = re.compile(r"\$(\d+)")
_RESULTS: Final = f"""
SELECT (SELECT count(*) FROM chain_moved),
       (SELECT count(pg_notify($1, payload)) FROM unnest($2::text[]) AS payload),
       ({TIMELINE}), EXISTS (SELECT FROM settled_epochs WHERE epoch = ({TIMELINE})),
       (SELECT json_agg(one)::text FROM processes AS one)"""  # noqa: S608 - all of it is ours


class Closed(NamedTuple):
    """What the statement did and found.

    Attributes:
        has_added_events: whether the audit events were added. They are not if the chain does not
            end where it was seen to end.
        register: as of a moment at which no process could register.
        touched: how many rows each kind of writes has touched, and was to touch.
    """

    has_added_events: bool
    register: RegisterState
    touched: list[tuple[int, int]]


class _Part(NamedTuple):
    name: str
    text: str
    values: Row


async def close(
    conversation: DirectConversation,
    *,
    head: tuple[ReadyStatement, int],
    events: Sequence[RecordedEvent],
    known_end: ChainEnd,
    writes: Sequence[DeferredWrite],
    payloads: Sequence[str],
) -> Closed:
    """Writes all this in one statement, before the caller commits.

    Args:
        head: how it is moved, and the revision that it is moved to.
        known_end: where the chain was seen to end.
        payloads: of the notifications.
    """
    dialect = conversation.dialect
    move, revision = head
    move_end = MOVE_END.on(dialect)
    insert_events, event_values = _of_rows(
        INSERT_EVENTS,
        [INSERT_EVENTS.on(dialect).values(event_to_row(one)) for one in events],
        dialect,
    )
    parts = [
        _Part("head_moved", move.on(dialect).text, move.on(dialect).values({"revision": revision})),
        _Part(
            "chain_moved",
            f"{move_end.text} RETURNING 1",
            move_end.values(move_from(known_end, events)),
        ),
        _Part(
            "events_added", f"{insert_events} WHERE EXISTS (SELECT FROM chain_moved)", event_values
        ),
    ]
    by_statement: dict[RowStatement, list[Row]] = {}
    for one in writes:
        by_statement.setdefault(one.statement, []).append(one.values)
    for number, (statement, rows) in enumerate(by_statement.items()):
        text, values = _of_rows(statement, rows, dialect)
        parts.append(_Part(f"written_{number}", f"{text} RETURNING 1", values))
    parts.append(_Part("", _RESULTS, (CHANNEL, payloads)))
    ((chain_moved, _, epoch, is_settled, registered, *touched),) = await conversation.fetch_text(
        _together(tuple((part.name, part.text, len(part.values)) for part in parts)),
        [value for part in parts for value in part.values],
    )
    position = StorePosition(revision, epoch, is_settled=is_settled)
    return Closed(
        chain_moved == 1,
        RegisterState(position, processes_in(registered or "[]")),
        list(zip(touched, map(len, by_statement.values()), strict=True)),
    )


def _of_rows(statement: RowStatement, rows: Sequence[Row], dialect: Dialect) -> tuple[str, Row]:
    """A statement that touches so many rows, and its values. The driver takes long to look at an
    array, so one row is given as it is."""
    if len(rows) == 1:
        return _of_one_row(statement, dialect), rows[0]
    return _of_arrays(statement, dialect), [list(column) for column in zip(*rows, strict=True)]


@functools.lru_cache(maxsize=64)
def _of_one_row(statement: RowStatement, dialect: Dialect) -> str:
    text = statement.on(dialect).text
    if statement.key is not None:
        return text
    # A selection may have a condition.
    names, _, values = text.partition(" VALUES (")
    return f"{names} SELECT {values.removesuffix(')')}"


@functools.lru_cache(maxsize=64)
def _of_arrays(statement: RowStatement, dialect: Dialect) -> str:
    """The statement with any number of rows, whose columns are the parameters."""
    table, columns = statement.table.name, statement.columns
    names = ", ".join(column.name for column in columns)
    # Documents are given as texts.
    arrays = ", ".join(
        f"${place}::{'text' if isinstance(column.type, JSON) else _type_of(column, dialect)}[]"
        for place, column in enumerate(columns, 1)
    )
    given = f"unnest({arrays}) AS given ({names})"
    if statement.key is None:
        taken = ", ".join(map(_taken, columns))
        return f"INSERT INTO {table} ({names}) SELECT {taken} FROM {given}"  # noqa: S608 - ours
    sets = ", ".join(
        f"{column.name} = {_taken(column)}" for column in columns if column.name != statement.key
    )
    key = statement.key
    return f"UPDATE {table} SET {sets} FROM {given} WHERE {table}.{key} = given.{key}"  # noqa: S608


def _taken(column: Column[Any]) -> str:
    name = f"given.{column.name}"
    return f"{name}::json" if isinstance(column.type, JSON) else name


def _type_of(column: Column[Any], dialect: Dialect) -> str:
    return column.type.dialect_impl(dialect).compile(dialect).partition(" COLLATE ")[0]


@functools.lru_cache(maxsize=64)
def _together(parts: tuple[tuple[str, str, int], ...]) -> str:
    """One statement of these, by their names, texts and numbers of values."""
    begin, first = [], 0
    for name, text, count in parts:
        renumbered = _PLACE.sub(lambda place, by=first: f"${int(place[1]) + by}", text)  # type: ignore[misc]
        begin.append((name, renumbered))
        first += count
    *inner, (_, results) = begin
    named = ", ".join(f"{name} AS ({text})" for name, text in inner)
    counted = "".join(
        f", (SELECT count(*) FROM {name})"  # noqa: S608 - names of this module alone
        for name, _ in inner
        if name.startswith("written_")
    )
    return f"WITH {named} {results}{counted}"
