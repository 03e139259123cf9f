"""A PostgreSQL for these tests, that waits for the disk, and that may be killed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyfence_server.adapters.sql import upgrade
from testkit.postgres import PostgresServer

ROOM_BYTES = 1 << 30


@pytest.fixture(scope="package")
def durable_server() -> Iterator[PostgresServer]:
    """A server that waits for the disk, and that may be killed.

    Where there is room its disk is memory: `kill -9` cannot tell the difference, and a
    server that recovers syncs every file that it has.
    """
    memory = Path("/dev/shm")
    has_room = memory.is_dir() and shutil.disk_usage(memory).free > ROOM_BYTES
    server = PostgresServer(durable=True, parent=memory if has_room else None)
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
