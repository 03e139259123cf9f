"""Many rows at once, for which SQLAlchemy would take longer than the database.

SQLAlchemy asks the type of a column again for each value. Here the types of the columns are asked
once for what they do to values, and what is the same as in the row before is not converted again.
The rows go to the driver, which has its own way for many of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Dialect, Table

from keyfence_server.adapters.sql.ready import conversion_of


class BulkInsert:
    """Converts rows of a table for the driver of a database.

    Attributes:
        table: its name.
        columns: the names of its columns, in the order of the values.
    """

    def __init__(self, table: Table, dialect: Dialect) -> None:
        self.table = table.name
        self.columns = tuple(column.name for column in table.c)
        self._conversions = [conversion_of(column.type, dialect) for column in table.c]

    def rows(self, columns: Mapping[str, list[object]]) -> list[tuple[object, ...]]:
        """The rows that have these columns. Raises `ValueError` for a value that no database could
        keep."""
        converted = [
            columns[name] if convert is None else _converted(columns[name], convert)
            for name, convert in zip(self.columns, self._conversions, strict=True)
        ]
        return list(zip(*converted, strict=True))


def _converted(column: list[object], convert: Callable[[Any], Any]) -> list[object]:
    converted: list[object] = []
    before, after = None, convert(None)
    for value in column:
        if value != before:
            before, after = value, convert(value)
        converted.append(after)
    return converted
