"""The statements that are more than a line long."""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    CTE,
    JSON,
    ColumnElement,
    FromClause,
    LargeBinary,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    cast,
    column,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
    type_coerce,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType

from keyfence_server.adapters.sql.schema import (
    accounts,
    audit_events,
    head,
    key_uses,
    keys,
    keyspaces,
    slow_hashes,
)
from keyfence_server.adapters.sql.sqlite_connection import READ_ON_THREAD
from keyfence_server.application.ports import EventFilter, KeyCriteria, KeyFilter, KeySpan
from keyfence_server.domain.keys import MAX_LINEAGE, KeyState

DIGESTS_A_STATEMENT: Final = 256
"""The most digests that one statement looks for."""


@cache
def whole_keys(source: FromClause = keys) -> Select[Any]:
    """The columns that `records.row_to_key` reads, as the driver has them.

    A page has a thousand keys. SQLAlchemy's types, column by column, would take most of the time
    that a page takes.
    """
    return _as_they_are(source, keys)


def whole(table: Table) -> Select[Any]:
    """The columns of a table, as the driver has them."""
    return _as_they_are(table, table)


def stamps_of_keyspaces() -> Select[Any]:
    """What tells one state of each keyspace from another, as the driver has it: the name, the
    revision and the time."""
    return select(
        *map(_as_it_is, (keyspaces.c.name, keyspaces.c.revision, keyspaces.c.update_time))
    )


def _as_they_are(source: FromClause, table: Table) -> Select[Any]:
    return select(*(_as_it_is(source.c[column.name]).label(column.name) for column in table.c))


def _as_it_is(column: ColumnElement[Any]) -> ColumnElement[Any]:
    # PostgreSQL's driver would read JSON at once, a whole page of it without a pause.
    return cast(column, Text) if isinstance(column.type, JSON) else type_coerce(column, NullType())


def lineage_of_id() -> Select[Any]:
    """The lineage of the key with the id `key_id`."""
    return _lineage(keys.c.key_id == bindparam("key_id"))


def lineage_and_more() -> Select[Any]:
    """The lineage of the key with the id `key_id`, and beside its first key what a mutation reads
    next: the columns of the owner, if that is a registered account, and the stamp of the keyspace.
    """
    line = _lines(keys.c.key_id == bindparam("key_id"))
    is_first = line.c.depth == literal_column("0")
    source = line.outerjoin(accounts, and_(is_first, accounts.c.account_id == line.c.account_id))
    source = source.outerjoin(keyspaces, and_(is_first, keyspaces.c.name == line.c.keyspace))
    query = whole_keys(line).add_columns(*whole(accounts).selected_columns)
    query = query.add_columns(*stamps_of_keyspaces().selected_columns)
    return query.select_from(source).order_by(line.c.depth)


@cache
def lineages_of_digests(digests: int) -> Select[Any]:
    """The lineages of the keys that are kept under so many digests, `digest_0` and so on, and all
    else that facts about keys follow from.

    The columns: the store's revision; whether it has slow hashes; the id of the lineage's first
    key; the number of steps from it; the state of the owner, if that is a registered account; those
    of `row_to_key`. There is one row without a key if nothing is found.
    """
    values = [bindparam(f"digest_{number}", type_=LargeBinary) for number in range(digests)]
    line = _lines(keys.c.digest.in_(values))
    owner = and_(accounts.c.account_id == line.c.account_id, accounts.c.keyspace == line.c.keyspace)
    owned = head.outerjoin(line, true()).outerjoin(accounts, owner)
    has_slow_hashes = exists().select_from(slow_hashes)
    begin = select(head.c.revision, has_slow_hashes, line.c.first, line.c.depth, accounts.c.state)
    return begin.add_columns(*whole_keys(line).selected_columns).select_from(owned)


def _lineage(condition: ColumnElement[bool]) -> Select[Any]:
    """The key that meets the condition, then its parent, and so on."""
    line = _lines(condition)
    return whole_keys(line).order_by(line.c.depth)


def _lines(condition: ColumnElement[bool]) -> CTE:
    """The keys that meet the condition, the parent of each, and so on.

    It goes one key further than a lineage can be long, so that a longer one shows: an
    answer without its last ancestor could hide that the ancestor was revoked.
    """
    first = select(*keys.c, keys.c.key_id.label("first"), literal_column("0").label("depth"))
    line = first.where(condition).cte("lineage", recursive=True)
    parent = keys.alias("parent")
    return line.union_all(
        select(*parent.c, line.c.first, line.c.depth + literal_column("1")).where(
            parent.c.key_id == line.c.parent_key_id,
            line.c.depth < literal_column(str(MAX_LINEAGE)),
        )
    )


def page_of_keys(which: KeyFilter, *, after: str | None, limit: int) -> Select[Any]:
    """The keys that pass the filter, from the first above `after` on."""
    return _in_order(whole_keys().where(*_passing(which)), after).limit(limit)


class Window:
    """The next keys of a search that are examined, and how the search goes on behind them.

    Of the filter's conditions the one that most likely leaves the fewest keys finds them, by its
    index. The other conditions and the criteria are tested on those keys alone.

    Args:
        expiring_are_few: whether `count_expiring` is within `FEW_EXPIRING`: then those keys are
            found by the index of expiry, and they are the last.

    Attributes:
        page: the first `limit` keys of the window that pass, in order. The window begins above the
            id `after`.
        end: the window's last key and the one behind it. No two rows: the window is the last.
        is_exact: whether every key that is found passes, so that a page of it is not cut.
    """

    def __init__(
        self,
        which: KeyFilter,
        criteria: KeyCriteria,
        *,
        examined: int,
        expiring_are_few: bool,
    ) -> None:
        in_keyspace, *filters = _passing(which)
        above = keys.c.key_id > bindparam("after")
        if expiring_are_few:
            # Not by their ids, of which the index of expiry has no order.
            found_by = [in_keyspace, *_expiring(criteria)]
            tested = [above, *filters, *_meeting(criteria)]
        else:
            found_by = [in_keyspace, *filters[:1], above]
            tested = [*filters[1:], *_expiring(criteria), *_meeting(criteria)]
        ids = select(keys.c.key_id).where(*found_by).order_by(keys.c.key_id)
        self.end = ids.offset(examined - 1).limit(2)
        self.is_exact = expiring_are_few or not tested
        if tested:
            found = ids if expiring_are_few else ids.limit(examined)
            passing = whole_keys().where(keys.c.key_id.in_(found), *tested)
        else:
            passing = whole_keys().where(*found_by)
        self.page = passing.order_by(keys.c.key_id).limit(bindparam("limit"))


FEW_EXPIRING: Final = 5_000
"""Up to so many keys that expire in a span of time are found by their expiry, in any order, and
sorted. If there are more, the search meets enough of them in the order of the ids."""


def count_expiring(which: KeyFilter, criteria: KeyCriteria) -> Select[Any]:
    """How many keys of the keyspace expire as the criteria say, at most one above
    `FEW_EXPIRING`."""
    in_keyspace, *_ = _passing(which)
    some = select(keys.c.key_id).where(in_keyspace, *_expiring(criteria)).limit(FEW_EXPIRING + 1)
    return select(func.count().label("count")).select_from(some.subquery())


def _in_order(query: Select[Any], after: str | None) -> Select[Any]:
    if after is not None:
        query = query.where(keys.c.key_id > after)
    return query.order_by(keys.c.key_id)


def _passing(which: KeyFilter) -> list[ColumnElement[bool]]:
    """The filter's conditions: the keyspace, and then the one that most likely leaves the fewest
    keys first."""
    wanted: list[tuple[ColumnElement[Any], str | None]] = [
        (keys.c.parent_key_id, which.parent_key_id),
        (keys.c.display_prefix, which.display_prefix),
        (keys.c.account_id, which.account_id),
        (keys.c.key_type, which.key_type),
        (keys.c.environment, which.environment),
    ]
    if which.state is not None:
        # Most keys are active.
        place = len(wanted) if which.state is KeyState.ACTIVE else 3
        wanted.insert(place, (keys.c.state, which.state.value))
    return [
        keys.c.keyspace == which.keyspace,
        *(column == value for column, value in wanted if value is not None),
    ]


def _expiring(criteria: KeyCriteria) -> list[ColumnElement[bool]]:
    if criteria.expiring is None:
        return []
    later_than, before = criteria.expiring
    return [keys.c.expire_time > later_than, keys.c.expire_time < before]


def _meeting(criteria: KeyCriteria) -> list[ColumnElement[bool]]:
    """The key meets the criteria, expiry aside."""
    conditions: list[ColumnElement[bool]] = [
        keys.c.labels[name].as_string() == value for name, value in criteria.labels.items()
    ]
    if criteria.not_revoked:
        conditions.append(keys.c.state != KeyState.REVOKED.value)
    uses = select(key_uses.c.key_id).where(key_uses.c.key_id == keys.c.key_id)
    if criteria.unused_since is not None:
        conditions.append(keys.c.create_time < criteria.unused_since)
        uses_since = uses.where(key_uses.c.last_used_time >= criteria.unused_since)
        conditions.append(~uses_since.exists())
    if criteria.never_used:
        conditions.append(~uses.exists())
    if criteria.granted_any is not None:
        wanted = literal(json.dumps(list(criteria.granted_any)), Text)
        held = _each_of(keys.c.granted_scopes)
        conditions.append(exists().where(held.in_(select(_each_of(wanted)))))
    return conditions


class _texts_of(FunctionElement[str]):  # noqa: N801 - it reads as the function that it is
    """The texts of a JSON list, as rows."""

    inherit_cache = True


@compiles(_texts_of, "sqlite")
def _texts_of_on_sqlite(element: _texts_of, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **options)})"


@compiles(_texts_of, "postgresql")
def _texts_of_on_postgresql(element: _texts_of, compiler: SQLCompiler, **options: Any) -> str:
    texts = compiler.process(element.clauses, **options)
    return f"json_array_elements_text(CAST({texts} AS json))"


def _each_of(texts: ColumnElement[Any]) -> ColumnElement[str]:
    """The texts of a JSON list, as the column of a table of its own."""
    return _texts_of(texts).table_valued(column("value", Text)).c.value


def uses_of(ids: ColumnElement[str]) -> Select[Any]:
    """How keys have been used, as the driver has it.

    Args:
        ids: a JSON list of the keys' ids. As parameters of their own they would take longer than
            the look-up.
    """
    uses = key_uses.c
    columns: list[ColumnElement[Any]] = [
        uses.key_id,
        uses.last_used_time,
        uses.last_used_address,
        uses.use_count,
    ]
    return select(*map(_as_it_is, columns)).where(uses.key_id.in_(select(_each_of(ids))))


def within(span: KeySpan) -> list[ColumnElement[bool]]:
    """The key is in the span."""
    conditions = not_revoked(span.keyspace)
    if span.after is not None:
        conditions.append(keys.c.key_id > span.after)
    if span.end is not None:
        conditions.append(keys.c.key_id <= span.end)
    expire_time = keys.c.expire_time
    return [*conditions, or_(expire_time.is_(None), expire_time > span.unexpired_at)]


def end_of_span(span: KeySpan, examined: int) -> Select[Any]:
    """The last id of so many in the span, whatever has become of the keys."""
    ids = select(keys.c.key_id).where(keys.c.keyspace == span.keyspace)
    return _in_order(ids, span.after).offset(examined - 1).limit(1)


_GRANTS: Final = cast(keys.c.granted_scopes, Text)


def count_grants(span: KeySpan) -> Select[Any]:
    """What keys of a span were granted, as the driver has it, with their type, whether they are
    delegated, and how many they are."""
    is_delegated = keys.c.parent_key_id.is_not(None)
    alike: list[ColumnElement[Any]] = [_GRANTS, keys.c.key_type, is_delegated]
    query = select(*alike, func.count()).where(*within(span)).group_by(*alike)
    return query.prefix_with(READ_ON_THREAD)


def granted(span: KeySpan, grants: Collection[tuple[str, ...]] | None) -> Select[Any]:
    """Keys of a span that were granted one of these; None: those that are delegated."""
    conditions = within(span)
    if grants is None:
        conditions.append(keys.c.parent_key_id.is_not(None))
    else:
        documents = json.dumps([json.dumps(list(one)) for one in grants])
        conditions += [
            keys.c.parent_key_id.is_(None),
            _GRANTS.in_(select(_each_of(literal(documents, Text)))),
        ]
    query = whole_keys().where(*conditions).order_by(keys.c.key_id)
    return query.prefix_with(READ_ON_THREAD)


def not_revoked(keyspace: str) -> list[ColumnElement[bool]]:
    """The key is of this keyspace and not revoked."""
    return [keys.c.keyspace == keyspace, keys.c.state != KeyState.REVOKED.value]


def telling(which: EventFilter) -> list[ColumnElement[bool]]:
    """The audit event passes the filter."""
    events = audit_events.c
    conditions: list[ColumnElement[bool]] = []
    if which.keyspaces is not None:
        conditions.append(events.keyspace.in_(sorted(which.keyspaces)))
    if which.but_keyspace is not None:
        conditions.append(events.keyspace != which.but_keyspace)
    if which.account_id is not None:
        conditions.append(events.account_id == which.account_id)
    if which.subject is not None:
        conditions.append(events.subject == which.subject)
    if which.actor_key_id is not None:
        conditions.append(events.actor_key_id == which.actor_key_id)
    if which.action_prefix is not None:
        prefix = which.action_prefix
        conditions.append(func.substr(events.action, 1, len(prefix)) == prefix)
    if which.start_time is not None:
        conditions.append(events.time >= which.start_time)
    if which.after_sequence is not None:
        conditions.append(events.sequence > which.after_sequence)
    if which.end_time is not None:
        conditions.append(events.time < which.end_time)
    return conditions
