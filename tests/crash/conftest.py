"""A PostgreSQL for these tests, that waits for the disk, and that may be killed; and where servers
keep their data."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from crash.places import SETTINGS, Place
from crash.reading import read_postgresql, read_sqlite
from keyfence_server.adapters.sql import upgrade
from keyfence_server.config import DATABASE_FILE
from testkit.postgres import PostgresServer


@pytest.fixture(scope="package")
def durable_server() -> Iterator[PostgresServer]:
    """A server that waits for the disk, and that may be killed.

    A server that recovers syncs every file that it has.
    """
    server = PostgresServer(durable=True)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="package")
def durable_template(durable_server: PostgresServer) -> str:
    """The name of a database on it with the tables, to make others from."""
    name = durable_server.create_database()
    asyncio.run(upgrade(durable_server.url(name)))
    return name


@pytest.fixture
def durable_url(durable_server: PostgresServer, durable_template: str) -> Iterator[str]:
    """A fresh database on it, with the tables."""
    name = durable_server.create_database(template=durable_template)
    yield durable_server.url(name)
    durable_server.drop_database(name)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """The directory of a server alone, or a PostgreSQL that waits for the disk."""
    if request.param == "sqlite":
        return Place(SETTINGS, f"sqlite:///{tmp_path / 'data' / DATABASE_FILE}", read_sqlite)
    url = request.getfixturevalue("durable_url")
    pepper = tmp_path / "pepper"
    pepper.write_text("1:" + "QUJD" * 12)
    pepper.chmod(0o600)
    more = {"KEYFENCE_DATABASE_URL": url, "KEYFENCE_PEPPER_FILE": str(pepper)}
    return Place({**SETTINGS, **more}, url, read_postgresql, has_several=True)
