"""Migrations: they make what the code wants, whole or not at all, and refuse what they
do not know."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, select
from sqlalchemy.ext.asyncio import AsyncConnection

import keyfence_server
from keyfence_server.adapters.sql import (
    SchemaMismatch,
    SqlStore,
    StoreOptions,
    current_revision,
    migrations,
    open_store,
    require_current,
    schema,
    upgrade,
)
from keyfence_server.adapters.sql.engines import create_engines
from keyfence_server.adapters.sql.schema import metadata
from keyfence_server.adapters.sql.urls import parse_database_url
from keyfence_server.application.ports import (
    MAX_USE_COUNT,
    KeyUse,
    StoreUnavailable,
    UseToAdd,
)
from keyfence_server.domain.keys import KeyId
from support.catalogue import describe
from support.clock import START

IMPATIENT = StoreOptions(lock_timeout=timedelta(seconds=0.2))
HEAD = max(path.name[:4] for path in (Path(migrations.__path__[0]) / "versions").glob("0*.py"))

_WHERE_AND_WHAT = """\
import keyfence_server
from keyfence_server.adapters.sql.migrations import wanted_revision
print(keyfence_server.__path__[0], wanted_revision())
"""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def empty_url(request: pytest.FixtureRequest) -> str:
    """The URL of a database without tables, SQLite and PostgreSQL in turn."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "empty_postgres_url"}[request.param]
    url: str = request.getfixturevalue(fixture)
    return url


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[AsyncConnection]:
    """A transaction on the database, committed at the end."""
    engines = create_engines(parse_database_url(url), StoreOptions())
    try:
        async with engines.writing.begin() as connection:
            yield connection
    finally:
        await engines.dispose()


async def execute(url: str, statement: str) -> None:
    """Executes one statement past the store."""
    async with connected(url) as connection:
        await connection.exec_driver_sql(statement)


async def test_upgrading_makes_the_tables_once(empty_url: str) -> None:
    assert await current_revision(empty_url) is None
    assert await upgrade(empty_url) == (None, HEAD)
    assert await upgrade(empty_url) == (HEAD, HEAD)
    assert await current_revision(empty_url) == HEAD
    await require_current(empty_url)
    store = await open_store(empty_url)
    await store.ping()
    await store.close()


async def test_of_several_that_upgrade_at_once_one_does_it(empty_url: str) -> None:
    outcomes = await asyncio.gather(*(upgrade(empty_url) for _ in range(4)))
    assert sorted(outcomes, key=str) == [(HEAD, HEAD)] * 3 + [(None, HEAD)]


async def test_an_embedded_database_is_upgraded_when_it_is_opened(sqlite_url: str) -> None:
    await (await open_store(sqlite_url)).close()
    assert await current_revision(sqlite_url) == HEAD


@pytest.mark.postgres
async def test_postgresql_is_never_upgraded_unasked(empty_postgres_url: str) -> None:
    with pytest.raises(SchemaMismatch, match="keyfence migrate"):
        await open_store(empty_postgres_url)
    with pytest.raises(SchemaMismatch, match="keyfence migrate"):
        await require_current(empty_postgres_url)
    assert await current_revision(empty_postgres_url) is None


async def test_a_database_of_a_newer_program_is_refused_and_left_alone(empty_url: str) -> None:
    await upgrade(empty_url)
    await execute(empty_url, "UPDATE alembic_version SET version_num = '9999'")
    for attempt in (open_store, upgrade, require_current):
        with pytest.raises(SchemaMismatch, match="newer"):
            await attempt(empty_url)
    assert await current_revision(empty_url) == "9999"


def test_the_migrations_are_found_under_any_path(tmp_path: Path) -> None:
    """Alembic takes a "%" in a path for the beginning of something else."""
    installed = tmp_path / "100%(here)s"
    installed.symlink_to(Path(keyfence_server.__path__[0]).parent)
    found = subprocess.run(
        [sys.executable, "-c", _WHERE_AND_WHAT],
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == [str(installed / "keyfence_server"), HEAD]


async def test_a_migration_that_fails_leaves_nothing_behind(empty_url: str) -> None:
    """A table is in the way that is made after others: it refers to one of them."""
    await execute(empty_url, "CREATE TABLE requests (x INTEGER)")
    with pytest.raises(RuntimeError, match="requests"):
        await upgrade(empty_url)
    assert await current_revision(empty_url) is None
    await execute(empty_url, "DROP TABLE requests")
    assert await upgrade(empty_url) == (None, HEAD)


async def test_a_count_at_the_end_of_64_bits_is_added_to_and_read(empty_url: str) -> None:
    """One forged count would otherwise stop the counts of all keys for good."""
    store = await open_migrated(empty_url)
    use = UseToAdd(KeyId("key_1"), START.date(), KeyUse(START, "", 1))
    other = replace(use, key_id=KeyId("key_2"))
    await store.add_uses([use])
    await store.close()
    for name in ("key_uses", "key_use_days"):
        await execute(empty_url, f"UPDATE {name} SET use_count = {2**63 - 1}")
    store = await open_store(empty_url)
    await store.add_uses([use, other])
    async with store.snapshot() as snapshot:
        uses = await snapshot.find_uses([use.key_id, other.key_id])
        days = await snapshot.list_use_days(use.key_id, first=START.date(), last=START.date())
    await store.close()
    assert [uses[one.key_id].count for one in (use, other)] == [MAX_USE_COUNT, 1]
    assert days == [(START.date(), MAX_USE_COUNT)]
    async with connected(empty_url) as connection:
        found = (await connection.execute(select(schema.key_uses.c.use_count))).scalars().all()
    assert sorted(found) == [1, MAX_USE_COUNT]


async def open_migrated(url: str) -> SqlStore:
    """The store at a URL, brought up to date first."""
    await upgrade(url)
    return await open_store(url)


async def test_sqlite_waits_for_the_lock_for_a_while_only(sqlite_url: str) -> None:
    await upgrade(sqlite_url)
    intruder = sqlite3.connect(parse_database_url(sqlite_url).path, isolation_level=None)
    intruder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreUnavailable, match="locked"):
        await upgrade(sqlite_url, options=IMPATIENT)
    intruder.close()
    await upgrade(sqlite_url, options=IMPATIENT)


@pytest.mark.postgres
async def test_postgresql_waits_for_the_lock_for_a_while_only(empty_postgres_url: str) -> None:
    intruder = await asyncpg.connect(empty_postgres_url)
    await intruder.execute("BEGIN; CREATE TABLE alembic_version (version_num text)")
    with pytest.raises(StoreUnavailable, match="lock timeout"):
        await upgrade(empty_postgres_url, options=IMPATIENT)
    await intruder.close()
    await upgrade(empty_postgres_url, options=IMPATIENT)


async def test_alembic_finds_no_difference_between_the_code_and_the_migrations(
    empty_url: str,
) -> None:
    await upgrade(empty_url)

    def compare(connection: Connection) -> list[object]:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        return list(compare_metadata(context, metadata))

    async with connected(empty_url) as connection:
        assert await connection.run_sync(compare) == []


async def test_the_databases_own_catalogue_finds_no_difference_either(empty_url: str) -> None:
    """Alembic looks at neither CHECKs nor collations: the database knows them."""
    await upgrade(empty_url)
    async with connected(empty_url) as connection:
        migrated = await connection.run_sync(describe)
        await connection.run_sync(metadata.drop_all)
        await connection.run_sync(metadata.create_all)
        created = await connection.run_sync(describe)
    assert migrated == created


@pytest.mark.parametrize(
    "difference",
    [
        "CREATE INDEX extra ON keys (state)",
        "DROP INDEX ix_keys_digest",
        "ALTER TABLE keys ADD COLUMN extra INTEGER",
        "CREATE TABLE extra (x INTEGER)",
    ],
)
async def test_the_catalogue_shows_a_difference(empty_url: str, difference: str) -> None:
    await upgrade(empty_url)
    async with connected(empty_url) as connection:
        before = await connection.run_sync(describe)
        await connection.exec_driver_sql(difference)
        assert await connection.run_sync(describe) != before


@pytest.mark.postgres
@pytest.mark.parametrize(
    "difference",
    [
        "ALTER TABLE keys DROP CONSTRAINT ck_keys_state",
        'ALTER TABLE keys ALTER COLUMN account_id TYPE TEXT COLLATE "C.utf8"',
        "ALTER TABLE keys ALTER COLUMN preset SET NOT NULL",
        "ALTER TABLE keys ALTER COLUMN pepper_version SET DEFAULT 1",
        "ALTER TABLE requests DROP CONSTRAINT fk_requests_key_id",
    ],
)
async def test_the_catalogue_shows_what_alembic_does_not_see(
    empty_postgres_url: str, difference: str
) -> None:
    await test_the_catalogue_shows_a_difference(empty_postgres_url, difference)


async def test_a_newer_schema_is_used_if_it_says_that_this_program_may(empty_url: str) -> None:
    """Servers of two versions run beside each other during an upgrade."""
    await upgrade(empty_url)
    await execute(empty_url, "UPDATE alembic_version SET version_num = '9999'")
    await execute(empty_url, "UPDATE compatibility SET schema_version = '9999'")
    assert await upgrade(empty_url) == ("9999", "9999")
    await require_current(empty_url)
    await (await open_store(empty_url)).close()
    await execute(empty_url, "UPDATE compatibility SET oldest_program = '9998'")
    for attempt in (open_store, upgrade, require_current):
        with pytest.raises(SchemaMismatch, match="newer"):
            await attempt(empty_url)
