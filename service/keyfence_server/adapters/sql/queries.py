"""The statements that are more than a line long."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, func, literal_column, or_, select

from keyfence_server.adapters.sql.schema import audit_events, keys
from keyfence_server.application.ports import EventFilter, KeyFilter
from keyfence_server.domain.keys import MAX_LINEAGE, KeyState
from keyfence_server.domain.secrets import Digest


@cache
def lineage_of_id() -> Select[Any]:
    """The lineage of the key with the id `key_id`.

    To put such a statement together takes longer than to execute it, so it is done once.
    """
    return _lineage(keys.c.key_id == bindparam("key_id"))


@cache
def lineage_of_digest(candidates: int) -> Select[Any]:
    """The lineage of the key that is kept under any of so many digests.

    A digest matches by its `value_n` and its `version_n` together.
    """
    return _lineage(
        or_(
            *(
                and_(
                    keys.c.digest == bindparam(f"value_{n}"),
                    keys.c.pepper_version == bindparam(f"version_{n}"),
                )
                for n in range(candidates)
            )
        )
    )


def digest_parameters(candidates: Sequence[Digest]) -> dict[str, object]:
    """What `lineage_of_digest` asks for."""
    values = {f"value_{n}": digest.value for n, digest in enumerate(candidates)}
    versions = {f"version_{n}": digest.pepper_version for n, digest in enumerate(candidates)}
    return {**values, **versions}


def _lineage(condition: ColumnElement[bool]) -> Select[Any]:
    """One key that meets the condition, then its parent, and so on.

    It goes one key further than a lineage can be long, so that a longer one shows: an
    answer without its last ancestor could hide that the ancestor was revoked.
    """
    youngest = (
        select(*keys.c, literal_column("0").label("depth"))
        .where(condition)
        .order_by(keys.c.pepper_version.desc(), keys.c.key_id)
        .limit(literal_column("1"))
        .subquery("youngest")
    )
    line = select(youngest).cte("lineage", recursive=True)
    parent = keys.alias("parent")
    line = line.union_all(
        select(*parent.c, line.c.depth + literal_column("1")).where(
            parent.c.key_id == line.c.parent_key_id,
            line.c.depth < literal_column(str(MAX_LINEAGE)),
        )
    )
    return select(line).order_by(line.c.depth)


def page_of_keys(which: KeyFilter, *, after: str | None, limit: int) -> Select[Any]:
    """The keys that pass the filter, from the first above `after` on."""
    query = select(keys).where(keys.c.keyspace == which.keyspace)
    if which.account_id is not None:
        query = query.where(keys.c.account_id == which.account_id)
    if which.state is not None:
        query = query.where(keys.c.state == which.state.value)
    if which.parent_key_id is not None:
        query = query.where(keys.c.parent_key_id == which.parent_key_id)
    if after is not None:
        query = query.where(keys.c.key_id > after)
    return query.order_by(keys.c.key_id).limit(limit)


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
