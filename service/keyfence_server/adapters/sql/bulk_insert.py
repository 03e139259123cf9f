"""An INSERT of many rows, for which SQLAlchemy would take longer than the database.

SQLAlchemy asks the type of a column again for each value. Here the types of the columns are asked
once for what they do to values, and what is the same as in the row before is not converted again.
PostgreSQL gets the rows as arrays, a column each: to execute a statement for each row takes it
longer than to insert the row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import JSON, Column, Dialect, Table, insert


class BulkInsert:
    """Puts together what a driver takes for many rows.

    Args:
        dialect: of the database that is written to.

    Attributes:
        statement: for the driver.
    """

    def __init__(self, table: Table, dialect: Dialect) -> None:
        self._has_arrays = dialect.name == "postgresql"
        self._columns: list[tuple[str, Callable[[Any], Any] | None]] = [
            (column.name, column.type.dialect_impl(dialect).bind_processor(dialect))
            for column in table.c
        ]
        self.statement = (
            _of_arrays(table, dialect)
            if self._has_arrays
            else str(insert(table).compile(dialect=dialect, column_keys=[c.name for c in table.c]))
        )

    def parameters(self, rows: Sequence[Mapping[str, object]]) -> Any:
        """What the statement takes for these rows."""
        columns = []
        for name, convert in self._columns:
            column = [row[name] for row in rows]
            columns.append(column if convert is None else _converted(column, convert))
        return tuple(columns) if self._has_arrays else list(zip(*columns, strict=True))


def _of_arrays(table: Table, dialect: Dialect) -> str:
    names = ", ".join(column.name for column in table.c)
    # Documents are given as texts.
    given = ", ".join(
        f"${place}::{'text' if isinstance(column.type, JSON) else _type_of(column, dialect)}[]"
        for place, column in enumerate(table.c, 1)
    )
    taken = ", ".join(
        f"{column.name}::json" if isinstance(column.type, JSON) else column.name
        for column in table.c
    )
    return (
        f"INSERT INTO {table.name} ({names}) "  # noqa: S608 - names of the schema alone
        f"SELECT {taken} FROM unnest({given}) AS given ({names})"
    )


def _type_of(column: Column[Any], dialect: Dialect) -> str:
    return column.type.dialect_impl(dialect).compile(dialect).partition(" COLLATE ")[0]


def _converted(column: list[object], convert: Callable[[Any], Any]) -> list[object]:
    converted: list[object] = []
    for place, value in enumerate(column):
        is_as_before = place > 0 and value == column[place - 1]
        converted.append(converted[-1] if is_as_before else convert(value))
    return converted
