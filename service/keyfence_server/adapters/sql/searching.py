"""The statements by which keys are searched for, put together once for each kind of search."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ColumnElement,
    Integer,
    Text,
    bindparam,
    exists,
    func,
    literal_column,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from keyfence_server.adapters.sql.queries import each_of, whole_keys
from keyfence_server.adapters.sql.ready import ReadyStatement
from keyfence_server.adapters.sql.schema import key_uses, keys
from keyfence_server.adapters.sql.sqlite_connection import READ_ON_THREAD
from keyfence_server.application.ports import KeyCriteria, KeyFilter
from keyfence_server.domain.keys import KeyState

FEW_EXPIRING: Final = 5_000
"""Up to so many keys that expire in a span of time are found by their expiry, in any order, and
sorted. If there are more, the search meets enough of them in the order of the ids."""

_FILTERS: Final = (
    "parent_key_id",
    "display_prefix",
    "account_id",
    "state",
    "key_type",
    "environment",
)
"""The columns that are compared with one value. Those that most likely leave the fewest keys are
first. Most keys are active, so that state is the last."""

_SKEWED: Final = frozenset({"state", "key_type", "environment"})
"""Of these, one value may be a million times as frequent as another."""

_Columns = ReadOnlyColumnCollection[str, ColumnElement[Any]]


class Kind(NamedTuple):
    """What the statements of a search depend on: all but the values.

    Attributes:
        filters: the columns that are compared, in the order of `_FILTERS`.
        labels: how many labels are asked for.
        expiring: whether a span of time is given in which the keys expire, and then, whether at
            most `FEW_EXPIRING` do.
    """

    filters: tuple[str, ...]
    labels: int
    granted_any: bool
    unused_since: bool
    never_used: bool
    not_revoked: bool
    expiring: bool
    expiring_are_few: bool


def kind_of(which: KeyFilter, criteria: KeyCriteria, *, expiring_are_few: bool) -> Kind:
    """The kind of a search."""
    filters = [name for name in _FILTERS if getattr(which, name) is not None]
    if which.state is KeyState.ACTIVE:
        filters.remove("state")
        filters.append("state")
    return Kind(
        tuple(filters),
        labels=len(criteria.labels),
        granted_any=criteria.granted_any is not None,
        unused_since=criteria.unused_since is not None,
        never_used=criteria.never_used,
        not_revoked=criteria.not_revoked,
        expiring=criteria.expiring is not None,
        expiring_are_few=expiring_are_few,
    )


def values_of(which: KeyFilter, criteria: KeyCriteria) -> dict[str, Any]:
    """The values of a search, by their names in the statements."""
    later_than, before = criteria.expiring or (None, None)
    values: dict[str, Any] = {name: getattr(which, name) for name in _FILTERS}
    for number, (name, value) in enumerate(criteria.labels.items()):
        values |= {f"label_{number}": name, f"label_{number}_value": value}
    return values | {
        "keyspace": which.keyspace,
        "state": which.state.value if which.state is not None else None,
        "granted_any": json.dumps(list(criteria.granted_any or ())),
        "unused_since": criteria.unused_since,
        "later_than": later_than,
        "before": before,
    }


class Search:
    """The statements of a search.

    A search examines a window of the keyspace: the first `examined` keys above the id `after`. Of
    the filters the one that most likely leaves the fewest keys finds them, by its index. All else
    is tested on those keys alone. Where few keys expire, all of these are the window.

    Attributes:
        page: the first `limit` keys above `after`, in order; None if anything is tested.
        found: a JSON list of the ids of the first `limit` keys of the window that pass, in order.
        is_skewed: whether the filter that finds the keys finds any number of them.
        end: the id of the window's last key and of the one behind it. No two rows: the window is
            the last. None: the window always is.
    """

    def __init__(self, kind: Kind) -> None:
        in_keyspace = keys.c.keyspace == bindparam("keyspace")
        after = bindparam("after", type_=keys.c.key_id.type)
        limit = bindparam("limit", type_=Integer)
        self.is_skewed = not _SKEWED.isdisjoint(kind.filters[:1])
        self.page: ReadyStatement | None = None
        self.end: ReadyStatement | None = None
        if kind.expiring_are_few:
            tested = kind.filters
            window = select(*_tested_columns(kind, tested)).where(in_keyspace, *_expiring(keys.c))
            of = window.limit(FEW_EXPIRING).subquery().c
            # Not before, since the index of expiry has no order of ids.
            tests = [of.key_id > after]
        else:
            by_index, tested = kind.filters[:1], kind.filters[1:]
            found_by = [keys.c[name] == bindparam(name) for name in by_index]
            window = select(*_tested_columns(kind, tested))
            window = window.where(in_keyspace, *found_by, keys.c.key_id > after)
            window = window.order_by(keys.c.key_id)
            examined = bindparam("examined", type_=Integer)
            end = window.with_only_columns(keys.c.key_id).limit(literal_column("2"))
            self.end = ReadyStatement(end.offset(examined - literal_column("1")))
            of = window.limit(examined).subquery().c
            tests = list(_expiring(of)) if kind.expiring else []
        tests += [of[name] == bindparam(name) for name in tested]
        tests += _meeting(kind, of)
        if not tests:
            page = window.with_only_columns(*whole_keys().selected_columns).limit(limit)
            self.page = ReadyStatement(page)
        ids = select(of.key_id).where(*tests).limit(limit)
        if kind.expiring_are_few:
            ids = ids.order_by(of.key_id)
        # A window by ids is read in its order. SQLite would sort all of it once more.
        found = select(_list_of(ids.subquery().c.key_id))
        # To test keys takes longer than the event loop has time for.
        self.found = ReadyStatement(found.prefix_with(READ_ON_THREAD))


def _tested_columns(kind: Kind, filters: Sequence[str]) -> list[Column[Any]]:
    """The columns that the tests look at. SQLite would read all those of a subquery."""
    criteria = {
        "labels": kind.labels,
        "granted_scopes": kind.granted_any,
        "create_time": kind.unused_since,
        "state": kind.not_revoked,
        "expire_time": kind.expiring,
    }
    names = ["key_id", *filters, *(name for name, is_tested in criteria.items() if is_tested)]
    return [keys.c[name] for name in dict.fromkeys(names)]


@lru_cache(maxsize=256)
def search_of(kind: Kind) -> Search:
    """The statements of this kind of search."""
    return Search(kind)


def _expiring(of: _Columns) -> tuple[ColumnElement[bool], ...]:
    return of.expire_time > bindparam("later_than"), of.expire_time < bindparam("before")


COUNT_EXPIRING: Final = ReadyStatement(
    select(func.count()).select_from(
        select(keys.c.key_id)
        .where(keys.c.keyspace == bindparam("keyspace"), *_expiring(keys.c))
        .limit(FEW_EXPIRING + 1)
        .subquery()
    )
)
"""How many keys of the keyspace expire as the criteria say, at most one above `FEW_EXPIRING`."""


def _meeting(kind: Kind, of: _Columns) -> list[ColumnElement[bool]]:
    """The key meets the criteria, expiry aside."""
    conditions = [
        of.labels[bindparam(f"label_{number}", type_=JSON.JSONStrIndexType())].as_string()
        == bindparam(f"label_{number}_value", type_=Text)
        for number in range(kind.labels)
    ]
    if kind.not_revoked:
        conditions.append(of.state != KeyState.REVOKED.value)
    # Not `NOT EXISTS`, for which PostgreSQL may read every use there is.
    last_use = select(key_uses.c.last_used_time).where(key_uses.c.key_id == of.key_id)
    if kind.unused_since:
        time = bindparam("unused_since", type_=keys.c.create_time.type)
        conditions.append(of.create_time < time)
        conditions.append(
            last_use.where(key_uses.c.last_used_time >= time).scalar_subquery().is_(None)
        )
    if kind.never_used:
        conditions.append(last_use.scalar_subquery().is_(None))
    if kind.granted_any:
        conditions.append(_any_in(of.granted_scopes, bindparam("granted_any", type_=Text)))
    return conditions


class _list_of(FunctionElement[str]):  # noqa: N801 - it reads as the function that it is
    """A JSON list of the texts of all rows."""

    type = Text()
    inherit_cache = True


@compiles(_list_of, "sqlite")
def _list_of_on_sqlite(element: _list_of, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_group_array({compiler.process(element.clauses, **options)})"


@compiles(_list_of, "postgresql")
def _list_of_on_postgresql(element: _list_of, compiler: SQLCompiler, **options: Any) -> str:
    texts = compiler.process(element.clauses, **options)
    return f"coalesce(CAST(json_agg({texts}) AS text), '[]')"


class _any_in(FunctionElement[bool]):  # noqa: N801 - it reads as the function that it is
    """Whether one of the texts of a JSON list is in another JSON list."""

    type = Boolean()
    inherit_cache = True


@compiles(_any_in, "sqlite")
def _any_in_on_sqlite(element: _any_in, compiler: SQLCompiler, **options: Any) -> str:
    held, wanted = map(each_of, element.clauses)
    return str(compiler.process(exists().where(held.in_(select(wanted))), **options))


@compiles(_any_in, "postgresql")
def _any_in_on_postgresql(element: _any_in, compiler: SQLCompiler, **options: Any) -> str:
    held, wanted = (compiler.process(one, **options) for one in element.clauses)
    # To compare two lists of rows would take PostgreSQL ten times as long.
    wanted = f"ARRAY(SELECT json_array_elements_text(CAST({wanted} AS json)))"
    return f"(CAST({held} AS jsonb) ?| {wanted})"
