"""SQLite keeps the store's contract."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import Select
from sqlalchemy.dialects import sqlite

from keyfence_server.adapters.sql import (
    StoreOptions,
    compiled_keyspaces,
    open_store,
    queries,
    reading,
    searching,
)
from keyfence_server.adapters.sql.engines import create_engines
from keyfence_server.adapters.sql.reading import read_slowly
from keyfence_server.adapters.sql.records import key_to_row, keyspace_to_row
from keyfence_server.adapters.sql.schema import keys
from keyfence_server.adapters.sql.urls import parse_database_url
from keyfence_server.application.ports import KeyCriteria, KeyFilter, Store, StoreUnavailable
from keyfence_server.domain.keys import KeyState
from keyfence_server.domain.keyspaces import Keyspace
from store_contract import Category, Harness, store_contract
from support.builders import KEYSPACE, insert_keys, make_key, make_keyspace, put_keyspaces
from support.clock import START
from support.sqlite import copy_migrated


class SqliteHarness:
    """A file. It is taken away by another process that locks it for writing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stores: list[Store] = []
        self._intruder: sqlite3.Connection | None = None

    async def open(self, *, patient: bool = True) -> Store:
        """See the contract."""
        options = StoreOptions(lock_timeout=timedelta(seconds=30 if patient else 0.3))
        self._stores.append(await open_store(f"sqlite:///{self._path}", options=options))
        return self._stores[-1]

    async def close(self) -> None:
        """Closes what was opened."""
        for store in self._stores:
            await store.close()

    async def query(self, statement: str) -> list[tuple[Any, ...]]:
        """See the contract."""
        connection = sqlite3.connect(self._path)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    async def count_open_transactions(self) -> int:
        """See the contract. A lock for writing is all that can be seen from outside."""
        connection = sqlite3.connect(self._path, timeout=0, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return 1
        else:
            # A reader that was left behind would keep the log from being emptied.
            connection.execute("ROLLBACK")
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return int(busy)
        finally:
            connection.close()

    async def take_away(self) -> None:
        """See the contract."""
        self._intruder = sqlite3.connect(self._path, isolation_level=None)
        self._intruder.execute("BEGIN IMMEDIATE")

    async def give_back(self) -> None:
        """See the contract."""
        assert self._intruder is not None
        self._intruder.close()


def harness_in_a_directory(request: pytest.FixtureRequest) -> Harness:
    """On a file with the tables and nothing in them."""
    directory: Path = request.getfixturevalue("tmp_path")
    return SqliteHarness(copy_migrated(directory / "store.db"))


TestSqlite = store_contract(
    harness_in_a_directory,
    except_for={
        Category.READS_FAIL_WITHOUT_THE_DATABASE: (
            "The database is a file. Another process can take the lock for writing, not the file."
        )
    },
)


async def test_every_connection_is_durable_and_checks_references(sqlite_url: str) -> None:
    engines = create_engines(parse_database_url(sqlite_url), StoreOptions())
    async with engines.reading.connect() as reading, engines.writing.connect() as writing:
        for connection in (reading, writing):
            for pragma, value in {
                "journal_mode": "wal",
                "synchronous": 2,
                "foreign_keys": 1,
                "busy_timeout": 5000,
            }.items():
                result = await connection.exec_driver_sql(f"PRAGMA {pragma}")
                assert result.scalar_one() == value
    await engines.dispose()


async def test_no_other_user_can_read_the_files(tmp_path: Path) -> None:
    store = await open_store(f"sqlite:///{tmp_path}/store.db")
    await insert_keys(store, make_key())
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in os.scandir(tmp_path)}
    assert modes == dict.fromkeys(["store.db", "store.db-wal", "store.db-shm"], 0o600)
    await store.close()


async def test_a_full_disk_refuses_mutations_whole_and_is_forgotten_once_there_is_room(
    tmp_path: Path,
) -> None:
    """The process may write no more than so much to any file: to SQLite, a full disk."""
    store = await open_store(f"sqlite:///{tmp_path}/store.db")
    before = await insert_keys(store, make_key())
    big = make_key(display_name="x" * 2_000_000)
    with _file_size_limit(1_000_000), pytest.raises(StoreUnavailable):
        await insert_keys(store, make_key(), big)
    async with store.snapshot() as snapshot:
        assert snapshot.revision == before
        assert await snapshot.count_keys(KEYSPACE) == 1
    assert await insert_keys(store, big) == before + 1
    await store.close()


async def test_a_file_that_is_no_database_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"canary, and not a database" * 1000)
    with pytest.raises(StoreUnavailable, match="not a database"):
        await open_store(f"sqlite:///{path}")


async def test_more_readers_than_connections_wait_for_a_while_only(sqlite_url: str) -> None:
    options = StoreOptions(pool_size=1, connect_timeout=timedelta(seconds=0.1))
    store = await open_store(sqlite_url, options=options)
    async with store.snapshot():
        with pytest.raises(StoreUnavailable):
            await store.ping()
    await store.ping()
    await store.close()


@pytest.mark.parametrize(
    "query",
    [
        queries.lineage_of_id(),
        queries.lineages_of_digests(1),
        queries.lineages_of_digests(256),
        queries.keys_of_ids(),
    ],
)
async def test_no_look_up_reads_every_key(sqlite_url: str, query: Select[Any]) -> None:
    await (await open_store(sqlite_url)).close()
    steps = _plan(sqlite_url, query)
    assert any(step.startswith("SEARCH keys USING INDEX") for step in steps)
    assert not any(step.startswith("SCAN keys") for step in steps)


@pytest.mark.parametrize(
    ("which", "by"),
    [
        ({}, "keyspace=? AND key_id>?"),
        ({"account_id": "a"}, "keyspace=? AND account_id=? AND key_id>?"),
        ({"parent_key_id": "k0"}, "keyspace=? AND parent_key_id=? AND key_id>?"),
        ({"key_type": "t"}, "keyspace=? AND key_type=? AND key_id>?"),
        ({"environment": "e"}, "keyspace=? AND environment=? AND key_id>?"),
        ({"display_prefix": "p"}, "keyspace=? AND display_prefix=? AND key_id>?"),
        ({"state": KeyState.REVOKED, "key_type": "t"}, "keyspace=? AND state=? AND key_id>?"),
        ({"state": KeyState.ACTIVE, "key_type": "t"}, "keyspace=? AND key_type=? AND key_id>?"),
    ],
)
async def test_a_search_finds_its_window_by_an_index_and_reads_no_other_key(
    sqlite_url: str, which: dict[str, Any], by: str
) -> None:
    await (await open_store(sqlite_url)).close()
    search = _search(_EVERY_CRITERION, expiring_are_few=False, **which)
    assert search.end is not None
    for statement in (search.found, search.end):
        steps = _plan(sqlite_url, statement.statement)
        (found_by,) = [step for step in steps if "INDEX ix_keys" in step]
        assert f"({by})" in found_by
        assert not any(step.startswith("SCAN key") for step in steps)
        assert not any("TEMP B-TREE" in step for step in steps)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key_type", "x"),
        ("environment", "x"),
        ("display_prefix", "x"),
        ("account_id", "x"),
        ("state", KeyState.ACTIVE),
        ("state", KeyState.REVOKED),
    ],
)
async def test_a_page_by_one_filter_reads_the_keys_that_pass_alone(
    sqlite_url: str, field: str, value: Any
) -> None:
    """Otherwise an empty page of a large keyspace reads every key."""
    await (await open_store(sqlite_url)).close()
    search = _search(KeyCriteria(), expiring_are_few=False, **{field: value})
    assert search.page is not None
    (step,) = _plan(sqlite_url, search.page.statement)
    assert f"(keyspace=? AND {field}=? AND key_id>?)" in step


async def test_a_keyspace_that_was_prepared_is_not_made_into_a_document_again(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other mutations would wait for it."""
    made: list[Keyspace] = []

    def counted(keyspace: Keyspace, revision: int) -> dict[str, object]:
        made.append(keyspace)
        return keyspace_to_row(keyspace, revision)

    monkeypatch.setattr(compiled_keyspaces, "keyspace_to_row", counted)
    keyspace = make_keyspace()
    store = await open_store(sqlite_url)
    async with store.snapshot() as snapshot:
        await snapshot.prepare_keyspace(keyspace)
    await put_keyspaces(store, keyspace)
    assert made == [keyspace]
    # Of another one with the same name another row is written.
    other = make_keyspace(time=START + timedelta(days=1))
    async with store.snapshot() as snapshot:
        await snapshot.prepare_keyspace(keyspace)
    revision = await put_keyspaces(store, other)
    await store.close()
    store = await open_store(sqlite_url)
    async with store.snapshot() as snapshot:
        found = await snapshot.find_keyspace(keyspace.name)
    await store.close()
    assert found is not None
    assert (found.update_time, found.revision) == (other.update_time, revision)


async def test_uses_are_found_by_their_keys_and_no_other_use_is_read(sqlite_url: str) -> None:
    await (await open_store(sqlite_url)).close()
    steps = _plan(sqlite_url, queries.uses_of_ids())
    assert any(step.startswith("SEARCH key_uses USING") for step in steps)
    assert not any(step.startswith("SCAN key_uses") for step in steps)


async def test_few_keys_that_expire_are_found_by_their_expiry(sqlite_url: str) -> None:
    await (await open_store(sqlite_url)).close()
    search = _search(_EVERY_CRITERION, expiring_are_few=True, account_id="a")
    for statement in (search.found, searching.COUNT_EXPIRING):
        steps = _plan(sqlite_url, statement.statement)
        (found_by,) = [step for step in steps if "INDEX ix_keys" in step]
        assert "(keyspace=? AND expire_time>? AND expire_time<?)" in found_by
        assert not any(step.startswith("SCAN key") for step in steps)


async def test_the_statements_of_a_kind_of_search_are_put_together_once(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To put a statement together takes milliseconds."""
    made: list[searching.Kind] = []

    class Noted(searching.Search):
        def __init__(self, kind: searching.Kind) -> None:
            made.append(kind)
            super().__init__(kind)

    monkeypatch.setattr(searching, "Search", Noted)
    searching.search_of.cache_clear()
    store = await open_store(sqlite_url)
    await insert_keys(store, *(make_key(f"k{number}", labels={"a": "1"}) for number in range(5)))

    async def search(criteria: KeyCriteria, **which: Any) -> list[str]:
        async with store.snapshot() as snapshot:
            keys, _ = await snapshot.search_keys(
                KeyFilter(keyspace=KEYSPACE, **which),
                criteria,
                after=None,
                limit=9,
                examined=9,
                most_text=1_000,
            )
        return [key.key_id for key in keys]

    assert len(await search(KeyCriteria(labels={"a": "1"}))) == 5
    assert await search(KeyCriteria(labels={"b": "2"})) == []
    assert len(made) == 1
    assert await search(KeyCriteria(labels={"b": "2"}, never_used=True), account_id="a") == []
    assert len(made) == 2
    await store.close()
    searching.search_of.cache_clear()


async def test_rows_are_read_in_slices_by_the_size_of_their_json(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A page of small keys has few pauses. Large keys leave turns to other calls."""
    made: list[None] = []

    async def noted() -> None:
        made.append(None)

    monkeypatch.setattr(reading, "pause", noted)

    async def pauses_for(count: int, **fields: Any) -> int:
        values = key_to_row(make_key("k", **fields), 1)
        row = [values[column.name] for column in keys.c]
        row = [json.dumps(one) if isinstance(one, list | dict) else one for one in row]
        made.clear()
        assert len(await read_slowly([row] * count)) == count
        return len(made)

    assert await pauses_for(200) <= 3
    assert await pauses_for(20, labels={"a": "x" * 100_000}) >= 8
    assert await pauses_for(20, granted_scopes=("x" * 100_000,)) >= 8


_EVERY_CRITERION = KeyCriteria(
    labels={"team": "a"},
    granted_any=("vps:*",),
    unused_since=START,
    never_used=True,
    expiring=(START, START),
    not_revoked=True,
)


def _search(criteria: KeyCriteria, *, expiring_are_few: bool, **which: Any) -> searching.Search:
    asked = KeyFilter(keyspace="k", **which)
    return searching.Search(searching.kind_of(asked, criteria, expiring_are_few=expiring_are_few))


def _plan(url: str, query: Any) -> list[str]:
    """The steps by which SQLite answers a query."""
    compiled = query.compile(dialect=sqlite.dialect())
    with contextlib.closing(sqlite3.connect(parse_database_url(url).path)) as connection:
        values = [None] * len(compiled.positiontup)
        plan = connection.execute(f"EXPLAIN QUERY PLAN {compiled}", values).fetchall()
    return [step for *_, step in plan]


@contextmanager
def _file_size_limit(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _open_files(path: Path) -> int:
    """How often this process has the database's file open."""
    return sum(one.path == str(path) for one in psutil.Process().open_files())


@pytest.mark.parametrize("is_patient", [True, False])
async def test_closing_lets_no_transaction_keep_its_connection(
    tmp_path: Path, *, is_patient: bool
) -> None:
    """A connection that is left to the garbage collector keeps the file open until then."""
    path = tmp_path / "store.db"
    copy_migrated(path)
    options = StoreOptions(lock_timeout=timedelta(seconds=30 if is_patient else 0.05))
    store = await open_store(f"sqlite:///{path}", options=options)
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def write() -> None:
        async with store.transaction():
            begun.set()
            await may_end.wait()

    writing = asyncio.create_task(write())
    await begun.wait()
    closing = asyncio.create_task(store.close())
    if is_patient:
        await asyncio.sleep(0)
        assert not closing.done()
        may_end.set()
    await closing
    may_end.set()
    await writing
    assert _open_files(path) == 0
