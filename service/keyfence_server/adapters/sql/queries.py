"""The statements that are more than a line long."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, and_, literal_column, or_, select

from keyfence_server.adapters.sql.schema import keys
from keyfence_server.application.ports import KeyFilter
from keyfence_server.domain.keys import MAX_LINEAGE, KeyState
from keyfence_server.domain.secrets import Digest


def lineage(condition: ColumnElement[bool]) -> Select[tuple[object, ...]]:
    """One key that meets the condition, then its parent, and so on.

    It goes one key further than a lineage can be long, so that a longer one shows: an
    answer without its last ancestor could hide that the ancestor was revoked.
    """
    youngest = (
        select(*keys.c, literal_column("0").label("depth"))
        .where(condition)
        .order_by(keys.c.pepper_version.desc(), keys.c.key_id)
        .limit(1)
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


def kept_under(candidates: Sequence[Digest]) -> ColumnElement[bool]:
    """The key's digest is one of these, value and pepper together."""
    return or_(
        *(
            and_(keys.c.digest == one.value, keys.c.pepper_version == one.pepper_version)
            for one in candidates
        )
    )


def matching(which: KeyFilter) -> list[ColumnElement[bool]]:
    """The key passes the filter."""
    conditions = [keys.c.keyspace == which.keyspace]
    if which.account_id is not None:
        conditions.append(keys.c.account_id == which.account_id)
    if which.state is not None:
        conditions.append(keys.c.state == which.state.value)
    if which.parent_key_id is not None:
        conditions.append(keys.c.parent_key_id == which.parent_key_id)
    return conditions


def not_revoked(keyspace: str) -> list[ColumnElement[bool]]:
    """The key is of this keyspace and not revoked."""
    return [keys.c.keyspace == keyspace, keys.c.state != KeyState.REVOKED.value]
