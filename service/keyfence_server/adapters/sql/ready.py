"""Statements that are put together once, and then go to the driver as they are.

SQLAlchemy takes several times as long for a short statement as the database does: for each
execution it looks the statement up, asks the types of the columns, and makes a cursor and a
result. So a statement that every mutation executes is compiled by SQLAlchemy once for each kind of
database. After that only its values are converted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Dialect, LargeBinary, Table, bindparam, insert, update
from sqlalchemy.sql import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.types import TypeEngine


class ReadyStatement:
    """A statement whose values come by name, and whose rows come as the driver has them.

    Args:
        sets: of an `INSERT` or `UPDATE`, the columns that it sets to values of these names.

    Attributes:
        statement: SQLAlchemy's.
    """

    def __init__(self, statement: Executable, *, sets: Iterable[str] = ()) -> None:
        self.statement = statement
        self._sets = list(sets)
        self._by_database: dict[str, DriverStatement] = {}

    def on(self, dialect: Dialect) -> DriverStatement:
        """The statement for this kind of database."""
        ready = self._by_database.get(dialect.name)
        if ready is None:
            assert isinstance(self.statement, ClauseElement)  # noqa: S101 - all of Core's are
            compiled = self.statement.compile(dialect=dialect, column_keys=self._sets or None)
            assert isinstance(compiled, SQLCompiler)  # noqa: S101 - not DDL
            ready = self._by_database[dialect.name] = DriverStatement(compiled, dialect)
        return ready


class DriverStatement:
    """A statement as the driver of a database takes it.

    Attributes:
        text: with the driver's placeholders.
    """

    __slots__ = ("_fixed", "_places", "text")

    def __init__(self, compiled: SQLCompiler, dialect: Dialect) -> None:
        self.text = str(compiled)
        self._places: list[tuple[str, Callable[[Any], Any] | None]] = []
        self._fixed: dict[str, Any] = {}
        for name in compiled.positiontup or ():
            bound = compiled.binds[name]
            self._places.append((name, conversion_of(bound.type, dialect)))
            if not bound.required:
                self._fixed[name] = bound.effective_value

    def values(self, given: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values in the order of their places. Raises `ValueError` for one that no database
        could keep."""
        named = {**self._fixed, **given} if self._fixed else given
        return tuple(
            [
                named[name] if convert is None else convert(named[name])
                for name, convert in self._places
            ]
        )


class RowStatement(ReadyStatement):
    """A statement whose values are those of a whole row.

    Args:
        sets: the names of the columns that it sets.
        key: the name of the column that finds the row to replace; None: the row is added.

    Attributes:
        table: what the row is in.
        columns: of the table, in the order of the values.
        key: see above.
    """

    def __init__(
        self, table: Table, statement: Executable, sets: Sequence[str], key: str | None = None
    ) -> None:
        super().__init__(statement, sets=sets)
        self.table = table
        self.columns = [table.c[name] for name in (*sets, *([key] if key else []))]
        self.key = key


def conversion_of(type_: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    """What makes of a value of this type what the driver takes; None for nothing. Drivers take
    bytes as they are."""
    if isinstance(type_, LargeBinary):
        return None
    return type_.dialect_impl(dialect).bind_processor(dialect)


def insertion_into(table: Table) -> RowStatement:
    """Adds a whole row."""
    return RowStatement(table, insert(table), [column.name for column in table.c])


def replacement_in(table: Table) -> RowStatement:
    """Replaces the row that has the key of the given one."""
    (key,) = table.primary_key.columns
    sets = [column.name for column in table.c if column is not key]
    statement = update(table).where(key == bindparam(key.name))
    return RowStatement(table, statement, sets, key.name)


def rows_of(
    table: Table, columns: Mapping[str, list[object]], dialect: Dialect
) -> list[tuple[object, ...]]:
    """The rows of a table that have these columns, as the driver takes them. SQLAlchemy would take
    longer for them than the database: it asks the type of a column again for each value.

    Raises:
        ValueError: for a value that no database could keep.
    """
    converted = [
        _converted(columns[column.name], conversion_of(column.type, dialect)) for column in table.c
    ]
    return list(zip(*converted, strict=True))


def _converted(column: list[object], convert: Callable[[Any], Any] | None) -> list[object]:
    """A column as the driver takes it. What is the same as in the row before is not converted
    again."""
    if convert is None:
        return column
    converted: list[object] = []
    before, after = None, convert(None)
    for value in column:
        if value != before:
            before, after = value, convert(value)
        converted.append(after)
    return converted
