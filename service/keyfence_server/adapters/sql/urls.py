"""The URL of a store.

A URL can hold a password, so it is kept in a type that does not show it, and no error quotes it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from sqlalchemy import URL

_SQLITE: Final = frozenset({"sqlite", "sqlite+aiosqlite"})
_POSTGRESQL: Final = frozenset({"postgresql", "postgres", "postgresql+asyncpg"})


class InvalidDatabaseUrl(ValueError):
    """The database URL is not one that a store can be opened at."""


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """A database's address.

    Attributes:
        is_sqlite: a SQLite file; otherwise a PostgreSQL server.
        path: the file's path, for SQLite.
    """

    is_sqlite: bool
    path: str = ""
    _address: str = field(default="", repr=False)

    @property
    def place(self) -> str:
        """What to call it before people: without a user, a password or any parameter."""
        if self.is_sqlite:
            return self.path
        address, _, parameters = self._address.partition("?")
        host = address.rpartition("@")[2].partition("/")[0]
        # Where a password is not escaped as it must be, the host cannot be told from it.
        return f"PostgreSQL at {host}" if host and "@" not in parameters else "PostgreSQL"

    def for_sqlalchemy(self) -> URL:
        """The address of a SQLite file as SQLAlchemy wants it."""
        return URL.create("sqlite+aiosqlite", database=self.path)

    def for_asyncpg(self) -> str:
        """The address of a PostgreSQL server as asyncpg wants it.

        It is what the operator wrote, so everything works that works with libpq: several
        hosts, `target_session_attrs`, `sslmode`, a Unix socket by `?host=`.
        """
        return f"postgresql://{self._address}"


def parse_database_url(text: str) -> DatabaseUrl:
    """Reads "sqlite:///relative/path", "sqlite:////absolute/path", "postgresql://…".

    The driver may be named, as in "postgresql+asyncpg://…", and need not be.

    Raises:
        InvalidDatabaseUrl: it is something else.
    """
    scheme, separator, address = text.partition("://")
    if not separator:
        raise InvalidDatabaseUrl(
            "the database URL has no scheme; write sqlite:///path or postgresql://user@host/name"
        )
    if scheme in _POSTGRESQL:
        return DatabaseUrl(is_sqlite=False, _address=address)
    if scheme in _SQLITE:
        return DatabaseUrl(is_sqlite=True, path=_sqlite_path(address))
    raise InvalidDatabaseUrl(
        f'there is no store for "{scheme[:32]}://"; write sqlite:///path or postgresql://user@host/name'
    )


def url_of_file(path: Path) -> str:
    """The URL of a SQLite file, whatever characters its path has."""
    # As bytes: a directory's name need not be UTF-8.
    return f"sqlite:///{quote(os.fsencode(path.absolute()))}"


def _sqlite_path(address: str) -> str:
    if not address.startswith("/"):
        raise InvalidDatabaseUrl(
            "a SQLite URL has three slashes before a relative path, four before an absolute one"
        )
    if "?" in address:
        raise InvalidDatabaseUrl("a SQLite URL takes no parameters")
    # The name of a directory need not be UTF-8.
    path = unquote(address[1:], errors="surrogateescape")
    if path in {"", ":memory:"} or path.startswith("file:"):
        raise InvalidDatabaseUrl(
            "a SQLite URL names a file; a database in memory would forget every revocation"
        )
    return path
