"""Column types that mean the same on every database.

Databases differ in what they do to text and times on the way in and out. These types
leave them nothing to do: text compares byte by byte, and a time comes back as the
aware UTC microsecond that went in.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, Dialect, Text
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator, TypeEngine


class ExactText(TypeDecorator[str]):
    """Text that is equal only to its own bytes, and sorts by them.

    PostgreSQL would otherwise sort by the language of the database; SQLite's default,
    BINARY, is what is wanted. A NUL is refused on both, because PostgreSQL cannot keep it.
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[str]:
        """The type by its name in this database."""
        if dialect.name == "postgresql":
            return postgresql.TEXT(collation="C")
        return Text()

    def bind_processor(self, dialect: Dialect) -> Callable[[str | None], str | None]:
        """Refuses what one of the databases could not keep."""
        del dialect
        return _without_nul


def _without_nul(value: str | None) -> str | None:
    if value is not None and "\0" in value:
        raise ValueError("text with a NUL character cannot be stored")
    return value


class JsonText(TypeDecorator[str]):
    """A JSON document that is written as its text.

    The code that writes it decides where the text is made: for a large document, not on the event
    loop."""

    impl = JSON
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> None:
        """Nothing is to be done: the value is the text."""
        del dialect


class UtcTime(TypeDecorator[datetime]):
    """A moment, to the microsecond.

    In SQLite it is text of a fixed width, which a person can read and which sorts as
    the moments do.
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The type by its name in this database."""
        if dialect.name == "postgresql":
            return postgresql.TIMESTAMP(timezone=True)
        return Text()

    def bind_processor(
        self, dialect: Dialect
    ) -> Callable[[datetime | None], datetime | str | None]:
        """Refuses a time without a zone: it could be any of several moments."""
        return _moment if dialect.name == "postgresql" else _text_of_moment

    def process_result_value(
        self, value: datetime | str | None, dialect: Dialect
    ) -> datetime | None:
        """The moment that was stored."""
        return None if value is None else time_of(value)


def _moment(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    if value.utcoffset() is None:
        raise ValueError("a time without a zone cannot be stored")
    return value.astimezone(UTC)


def _text_of_moment(value: datetime | None) -> str | None:
    moment = _moment(value)
    return None if moment is None else moment.isoformat(timespec="microseconds")


def time_of(value: datetime | str) -> datetime:
    """The moment that a driver has found in a column of `UtcTime`."""
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    # asyncpg keeps the first and the last of all moments as PostgreSQL's infinities,
    # and gives them back without their zone.
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value
