"""The statements that are more than a line long."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    CTE,
    JSON,
    ColumnElement,
    CompoundSelect,
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
    null,
    or_,
    select,
    true,
    type_coerce,
    union_all,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType

from keyfence_server.adapters.sql.schema import (
    accounts,
    audit_events,
    audit_head,
    head,
    key_uses,
    keys,
    keyspaces,
    replaced_digests,
    slow_hashes,
)
from keyfence_server.adapters.sql.sqlite_connection import READ_ON_THREAD
from keyfence_server.application.ports import EventFilter, KeySpan
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
    line = _lines(keys.c.key_id == bindparam("key_id"))
    return whole_keys(line).order_by(line.c.depth)


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


def opening() -> Select[Any] | CompoundSelect[Any]:
    """What a mutation reads first, in one statement.

    The parameters are JSON lists of ids: `key_ids`, `account_ids` and `keyspaces`. The columns: the
    store's revision; the end of the audit chain, its count and its hash; those of a key, of an
    account, and of a keyspace's stamp. There is a row for each of the keys with its owner and its
    keyspace, or one without a key if none is found. The accounts and the keyspaces follow.
    """
    wanted = select(each_of(bindparam("key_ids", type_=Text)))
    one = select(keys).where(keys.c.key_id.in_(wanted)).subquery("one")
    source = head.join(audit_head, true()).outerjoin(one, true())
    source = source.outerjoin(accounts, accounts.c.account_id == one.c.account_id)
    source = source.outerjoin(keyspaces, keyspaces.c.name == one.c.keyspace)
    key = whole_keys(one).selected_columns
    account = whole(accounts).selected_columns
    stamp = stamps_of_keyspaces().selected_columns
    position = [head.c.revision, audit_head.c.event_count, audit_head.c.hash]
    found = select(*map(_as_it_is, position), *key, *account, *stamp).select_from(source)
    nothing = [null()] * (len(position) + len(key))
    account_ids = select(each_of(bindparam("account_ids", type_=Text)))
    names = select(each_of(bindparam("keyspaces", type_=Text)))
    return found.union_all(
        select(*nothing, *account, *[null()] * len(stamp)).where(
            accounts.c.account_id.in_(account_ids)
        ),
        select(*nothing, *[null()] * len(account), *stamp).where(keyspaces.c.name.in_(names)),
    )


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
            parent.c.key_id == line.c.parent_key_id, line.c.depth < literal_column(str(MAX_LINEAGE))
        )
    )


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


def each_of(texts: ColumnElement[Any]) -> ColumnElement[str]:
    """The texts of a JSON list, as the column of a table of its own."""
    return _texts_of(texts).table_valued(column("value", Text)).c.value


def keys_of_ids() -> Select[Any]:
    """The keys whose ids are in `ids`, a JSON list, in the order of their ids."""
    return whole_keys().where(keys.c.key_id.in_(_ids())).order_by(keys.c.key_id)


def uses_of_ids() -> Select[Any]:
    """How the keys whose ids are in `ids`, a JSON list, have been used, as the driver has it."""
    return whole(key_uses).where(key_uses.c.key_id.in_(_ids()))


def _ids() -> Select[Any]:
    # As parameters of their own they would take longer than the look-up.
    return select(each_of(bindparam("ids", type_=Text)))


def kept_digests(names: Collection[str]) -> CompoundSelect[Any]:
    """Which digests keys are kept under, or were.

    Args:
        names: of the parameters for the digests. That for the version of their pepper is `version`.
    """
    digests = [bindparam(name, type_=LargeBinary) for name in names]
    return union_all(
        *(
            select(kept.c.digest).where(
                kept.c.pepper_version == bindparam("version"), kept.c.digest.in_(digests)
            )
            for kept in (keys, replaced_digests)
        )
    )


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
    if span.after is not None:
        ids = ids.where(keys.c.key_id > span.after)
    return ids.order_by(keys.c.key_id).offset(examined - 1).limit(1)


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
            _GRANTS.in_(select(each_of(literal(documents, Text)))),
        ]
    query = whole_keys().where(*conditions).order_by(keys.c.key_id)
    return query.prefix_with(READ_ON_THREAD)


def not_revoked(keyspace: str) -> list[ColumnElement[bool]]:
    """The key is of this keyspace and not revoked."""
    return [keys.c.keyspace == keyspace, keys.c.state != KeyState.REVOKED.value]


def telling(which: EventFilter) -> list[ColumnElement[bool]]:
    """The audit event passes the filter."""
    values = ((name, getattr(which, name)) for name in _TELLING)
    return [_TELLING[name](value) for name, value in values if value is not None]


_EVENTS: Final = audit_events.c
_TELLING: Final[Mapping[str, Callable[[Any], ColumnElement[bool]]]] = {
    "keyspaces": lambda names: _EVENTS.keyspace.in_(sorted(names)),
    "but_keyspace": lambda name: _EVENTS.keyspace != name,
    "account_id": lambda account_id: _EVENTS.account_id == account_id,
    "subject": lambda subject: _EVENTS.subject == subject,
    "actor_key_id": lambda key_id: _EVENTS.actor_key_id == key_id,
    "action_prefix": lambda begin: func.substr(_EVENTS.action, 1, len(begin)) == begin,
    "start_time": lambda time: _EVENTS.time >= time,
    "after_sequence": lambda sequence: _EVENTS.sequence > sequence,
    "end_time": lambda time: _EVENTS.time < time,
}
"""What each field of a filter asks for."""
