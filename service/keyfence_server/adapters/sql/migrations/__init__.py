"""Migrates a database's tables to this program's schema, and refuses any other schema.

A migration is one transaction under one lock. If several processes start at once, the
first one migrates, and the others find the migration done. A failed migration changes
nothing. Each migration waits only briefly for its locks, because a transaction that waits
for a lock on a table blocks all later ones.

A newer program may have migrated the database. This program can use that schema if the
migrations since its own only added things that it need not know. Each migration says so with
`OLDEST_PROGRAM`: the schema version of the oldest program that may use the result. Without it,
older programs may not. `upgrade` writes the answer into the table `compatibility`, where the
older program finds it. A database without such an answer is refused and not changed.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, delete, insert, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from keyfence_server.adapters.sql.completion import to_completion
from keyfence_server.adapters.sql.engines import Engines, StoreOptions, create_engines
from keyfence_server.adapters.sql.errors import translated
from keyfence_server.adapters.sql.schema import compatibility
from keyfence_server.adapters.sql.unfinished_restore import is_restore_unfinished
from keyfence_server.adapters.sql.urls import parse_database_url

_LOCK: Final = 0x6B657966  # "keyf": a number that no other program would lock
_STATEMENT_TIMEOUT: Final = timedelta(minutes=10)


class SchemaMismatch(Exception):
    """The database's tables are not those of this program, or a restore into it has not
    finished. Nothing was changed."""


async def upgrade(url: str, *, options: StoreOptions | None = None) -> tuple[str | None, str]:
    """Brings the database at `url` up to date.

    Returns:
        The schema's version before, None if there was nothing, and the version now. A newer
        schema that this program may use is left as it is.

    Raises:
        InvalidDatabaseUrl: no store can be at this address.
        StoreUnavailable: the database does not answer, or others hold its locks.
        SchemaMismatch: a newer program wrote the database, and this one may not use it.
    """
    async with _engines(url, options) as engines:
        return await upgrade_engine(engines.writing)


async def current_revision(url: str) -> str | None:
    """The version of the schema at `url`; None if there is none. Raises as `upgrade` does."""
    async with _engines(url) as engines:
        with translated():
            async with engines.writing.connect() as connection:
                return await connection.run_sync(_version)


async def is_outdated(url: str) -> bool:
    """Whether the schema at `url` is older than this program. Raises as `upgrade` does, but for
    a schema that this program may not use."""
    current = await current_revision(url)
    return current != wanted_revision() and not (current is not None and _is_newer(current))


async def require_current(url: str) -> None:
    """Returns if this program may use the schema at `url`. Raises as `upgrade` does."""
    async with _engines(url) as engines:
        await require_current_engine(engines.writing)


async def upgrade_engine(engine: AsyncEngine) -> tuple[str | None, str]:
    """`upgrade`, over connections that exist already."""
    with translated():
        return await to_completion(_upgrade(engine))


async def require_current_engine(engine: AsyncEngine) -> None:
    """`require_current`, over connections that exist already."""
    with translated():
        async with engine.connect() as connection:
            await connection.run_sync(_require_usable)
            if await connection.run_sync(is_restore_unfinished):
                raise SchemaMismatch(
                    "a restore into this database has not finished, and keys that were revoked "
                    "since the backup may be valid in it; drop the database and restore again"
                )


def wanted_revision() -> str:
    """The version of the schema that this program works with."""
    return _scripts().get_current_head() or ""


def oldest_program() -> str:
    """The oldest program that may use `wanted_revision`, by the schema that it was made for."""
    return max(
        str(getattr(script.module, "OLDEST_PROGRAM", script.revision))
        for script in _scripts().walk_revisions()
    )


async def _upgrade(engine: AsyncEngine) -> tuple[str | None, str]:
    async with engine.begin() as connection:
        return await connection.run_sync(_upgrade_locked)


def _upgrade_locked(connection: Connection) -> tuple[str | None, str]:
    if connection.dialect.name == "postgresql":
        milliseconds = int(_STATEMENT_TIMEOUT.total_seconds() * 1000)
        connection.execute(text(f"SET LOCAL statement_timeout = {milliseconds}"))
        # The lock goes with the transaction; `lock_timeout` limits the wait for it. On
        # SQLite, BEGIN IMMEDIATE has locked the whole file.
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    before = _version(connection)
    if before is not None and _is_newer(before):
        _require_usable(connection)
        return before, before
    if before != wanted_revision():
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        row = {"schema_version": wanted_revision(), "oldest_program": oldest_program()}
        connection.execute(delete(compatibility))
        connection.execute(insert(compatibility).values(row))
    return before, wanted_revision()


def _require_usable(connection: Connection) -> None:
    """Returns if this program may use the schema. Raises `SchemaMismatch`."""
    current = _version(connection)
    if current is not None and _is_newer(current):
        oldest = _oldest_program(connection, current)
        # Of the versions that this program knows, its own is the newest.
        if oldest is None or _is_newer(oldest):
            raise SchemaMismatch(
                f"the database has schema {current}, which this program may not use: a newer "
                "Keyfence wrote it; run that version or a later one"
            )
    elif current != wanted_revision():
        found = f"has schema {current}" if current else "has no tables yet"
        raise SchemaMismatch(
            f"the database {found} and this program needs schema {wanted_revision()}; "
            "run `keyfence migrate`"
        )


def _oldest_program(connection: Connection, schema_version: str) -> str | None:
    """The oldest program that may use this schema; None if the database does not say it."""
    if not inspect(connection).has_table(compatibility.name):
        return None
    query = select(compatibility.c.oldest_program).where(
        compatibility.c.schema_version == schema_version
    )
    return connection.execute(query).scalar_one_or_none()


def _version(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _is_newer(version: str) -> bool:
    return version not in {script.revision for script in _scripts().walk_revisions()}


def _config() -> Config:
    config = Config()
    # Alembic reads a "%" as the beginning of another option's name.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


@functools.cache
def _scripts() -> ScriptDirectory:
    # Kept, since every new one loads all migrations again.
    return ScriptDirectory.from_config(_config())


@asynccontextmanager
async def _engines(url: str, options: StoreOptions | None = None) -> AsyncIterator[Engines]:
    slow = replace(options or StoreOptions(), statement_timeout=_STATEMENT_TIMEOUT)
    engines = create_engines(parse_database_url(url), slow)
    try:
        yield engines
    finally:
        await to_completion(engines.dispose())
