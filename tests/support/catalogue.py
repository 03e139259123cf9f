"""A database's schema as the database itself tells it, to compare one with another."""

from __future__ import annotations

import re
from typing import Final

from sqlalchemy import Connection

_SQLITE: Final = """
SELECT type || ' ' || name, sql FROM sqlite_master
WHERE name NOT LIKE 'sqlite_%' AND name <> 'alembic_version'
"""
# A line's end, or what stands before a column that was added to the table later.
_BETWEEN: Final = re.compile(r"\n|, (?=[a-z_]+ [A-Z])")
_POSTGRESQL: Final = """
WITH ours AS (
    SELECT oid, relname FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
      AND relname <> 'alembic_version'
)
SELECT relname, coalesce(obj_description(oid), '') FROM ours
UNION ALL
SELECT relname || '.' || attname,
       concat_ws(' ', format_type(atttypid, atttypmod), collname, attnotnull, attidentity,
                 pg_get_expr(adbin, adrelid))
FROM ours JOIN pg_attribute a ON attrelid = ours.oid AND attnum > 0 AND NOT attisdropped
LEFT JOIN pg_collation c ON c.oid = attcollation
LEFT JOIN pg_attrdef d ON adrelid = attrelid AND adnum = attnum
UNION ALL
SELECT relname || ' ' || conname, pg_get_constraintdef(c.oid)
FROM ours JOIN pg_constraint c ON conrelid = ours.oid
UNION ALL
SELECT relname || ' ' || indexrelid::regclass, pg_get_indexdef(indexrelid)
FROM ours JOIN pg_index ON indrelid = ours.oid
"""


def describe(connection: Connection) -> dict[str, str]:
    """Every table, column, constraint and index by name, with its definition in full.

    SQLite gives the text of each table's definition, columns and constraints in it,
    so it is cut at the commas and sorted: their order has no meaning. Nor have the quotes
    that it puts around the name of a table that was made anew by a migration.
    """
    if connection.dialect.name == "postgresql":
        return dict(connection.exec_driver_sql(_POSTGRESQL).all())
    return {
        name: "\n".join(
            sorted(line.strip(" \t\n,()") for line in _BETWEEN.split((sql or "").replace('"', "")))
        )
        for name, sql in connection.exec_driver_sql(_SQLITE)
    }
