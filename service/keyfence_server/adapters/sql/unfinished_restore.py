"""Keeps servers away from a PostgreSQL database until a restore into it has finished.

Before the restrictive changes since the backup are made again, revoked keys are valid in the
restored database. So a restore makes a table before anything else and drops it at the end. It
stays if the restore is killed. The store is not opened while the table is there, except by the
restore itself, which its sessions say by their `application_name`.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, text

from keyfence_server.adapters.sql.engines import StoreOptions, create_engines
from keyfence_server.adapters.sql.errors import translated
from keyfence_server.adapters.sql.urls import DatabaseUrl

_TABLE: Final = "keyfence_unfinished_restore"
_APPLICATION: Final = "keyfence-restore"
_IS_UNFINISHED: Final = text(
    f"SELECT to_regclass('{_TABLE}') IS NOT NULL"
    f" AND current_setting('application_name') <> '{_APPLICATION}'"
)


def url_for_restore(url: DatabaseUrl) -> str:
    """The URL with which the restore itself opens the database."""
    address = url.for_asyncpg()
    return f"{address}{'&' if '?' in address else '?'}application_name={_APPLICATION}"


async def begin_restore(url: DatabaseUrl) -> None:
    """Keeps servers away from now on. Raises `StoreUnavailable`."""
    await _execute(url, f"CREATE TABLE IF NOT EXISTS {_TABLE} ()")


async def end_restore(url: DatabaseUrl) -> None:
    """Lets servers use the database. Raises `StoreUnavailable`."""
    await _execute(url, f"DROP TABLE {_TABLE}")


def is_restore_unfinished(connection: Connection) -> bool:
    """Whether a restore has not finished, and this connection is not the restore's own."""
    if connection.dialect.name != "postgresql":
        return False
    return bool(connection.execute(_IS_UNFINISHED).scalar_one())


async def _execute(url: DatabaseUrl, statement: str) -> None:
    engines = create_engines(url, StoreOptions())
    try:
        with translated():
            async with engines.writing.begin() as connection:
                await connection.execute(text(statement))
    finally:
        await engines.dispose()
