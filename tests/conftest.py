"""Databases for tests: a SQLite file, or a fresh database of one real PostgreSQL server.

Also what holds for every test: how long it may take, and how many examples of a property it tries.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

from application.authority import Authority, found
from keyfence_server.adapters.sql import SqlStore, open_store, upgrade
from support.clock import FrozenClock
from support.deaths import Deaths
from support.memory import keep_temporary_files_in_memory
from support.sqlite import copy_migrated
from testkit.postgres import PostgresServer

SLOW_TIMEOUT_SECONDS: Final = 1_800

# No deadlines: how long an example takes says more about the machine than about the code.
settings.register_profile("fast", deadline=None, max_examples=50, print_blob=True)
settings.register_profile("thorough", deadline=None, max_examples=1_000, print_blob=True)
settings.load_profile("fast")


def pytest_configure() -> None:
    """Makes SIGINT what it is in a terminal. A shell lets what it starts in the background ignore
    it, and the processes that the tests start would do so, too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    keep_temporary_files_in_memory()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives slow tests the time that they need."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_SECONDS))


@pytest.fixture(scope="session")
def deaths() -> Iterator[Deaths]:
    """The processes that the tests start, and the signals that they send to them."""
    found = Deaths()
    with found.watching():
        yield found


@pytest.fixture(autouse=True)
def no_process_dies_by_a_signal(deaths: Deaths) -> Iterator[None]:
    """Fails the test during which a process died by a signal that no test had sent."""
    yield
    assert deaths.take() == []


@pytest.fixture(scope="session", autouse=True)
def no_process_dies_at_the_end(deaths: Deaths) -> Iterator[None]:
    """As above, for processes that the whole session shares."""
    yield
    assert deaths.take() == []


@pytest.fixture
def clock() -> FrozenClock:
    """A clock that the test moves."""
    return FrozenClock()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running PostgreSQL, for the whole session."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """The name of a database with the tables, to make others from."""
    name = postgres_server.create_database()
    asyncio.run(upgrade(postgres_server.url(name)))
    return name


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a database of the test's own, without tables."""
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    """The URL of a database of the test's own, with the tables."""
    name = postgres_server.create_database(template=postgres_template)
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite file of the test's own, which is not there yet."""
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture
def migrated_sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite file of the test's own, with the tables."""
    return f"sqlite:///{copy_migrated(tmp_path / 'store.db')}"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh database with the tables: the test runs on SQLite and on PostgreSQL."""
    fixture = {"sqlite": "migrated_sqlite_url", "postgresql": "postgres_url"}[request.param]
    url: str = request.getfixturevalue(fixture)
    return url


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[SqlStore]:
    """An empty store: the test runs on SQLite and on PostgreSQL."""
    opened = await open_store(database_url)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def founded_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the root credential and the keyspaces, to make copies of."""
    path = tmp_path_factory.mktemp("founded") / "store.db"
    asyncio.run(found(path))
    return path


@pytest.fixture
async def authority(
    founded_database: Path, tmp_path: Path, clock: FrozenClock
) -> AsyncIterator[Authority]:
    """A started authority with a store of its own."""
    path = tmp_path / "store.db"
    shutil.copy(founded_database, path)
    store = await open_store(f"sqlite:///{path}")
    authority = Authority(store, clock)
    await authority.start()
    yield authority
    await authority.mutations.finish()
    await store.close()
