"""`kill -9` at any moment: what was acknowledged stands, the rest is whole or absent.

Without the transaction around each mutation, or with an acknowledgement before its
commit, the evidence would show a key without its event, or an event that is lost.

What `kill -9` cannot show is a lost write of the machine's own: that SQLite and
PostgreSQL are told to wait for the disk is tested beside the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import random
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess

import pytest

from crash.evidence import assert_usable, verify
from crash.load import Acknowledgement, prepare, run
from crash.reading import Read, read_postgresql, read_sqlite
from keyfence_server.adapters.sql import open_store
from keyfence_server.adapters.sql.urls import parse_database_url
from testkit.postgres import PostgresServer

pytestmark = pytest.mark.slow

# A store grows from round to round, and with it the work of looking at all of it.
SEEDS = range(3)
ROUNDS = 20
SERVER_SEEDS = range(2)
SERVER_ROUNDS = 6
LONGEST_SECONDS = 0.08
PATIENCE_SECONDS = 30


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Makes processes that have everything imported already: a round is short."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["crash.load"])
    with pytest.MonkeyPatch.context() as patch:
        # Not every Python tells the process that forks where to import from, and none
        # complains when it cannot.
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()
    return context


@dataclass
class Victim:
    """A running load, and what it has acknowledged."""

    process: BaseProcess
    hear: Callable[[], Acknowledgement]
    acknowledged: list[Acknowledgement] = field(default_factory=list)

    def listen_for(self, seconds: float) -> None:
        """Lets the load work for so long after its first acknowledgement."""
        self.acknowledged.append(self.hear())
        self.process.join(seconds)

    def kill(self) -> None:
        """Ends the process by `kill -9`, and takes in what it had acknowledged by then."""
        self.process.kill()
        self.wait()

    def wait(self) -> None:
        """Waits for the end of the process, and takes in what it had acknowledged."""
        try:
            while True:
                self.acknowledged.append(self.hear())
        except EOFError:
            pass
        self.process.join(PATIENCE_SECONDS)
        assert self.process.exitcode is not None


def start(processes: ForkServerContext, url: str, root: str, seed: int) -> Victim:
    """Starts a load on a prepared store."""
    hearing, telling = processes.Pipe(duplex=False)
    process = processes.Process(target=run, args=(url, root, seed, telling), daemon=True)
    process.start()
    telling.close()
    return Victim(process, hearing.recv)


async def look_at(
    read: Read,
    url: str,
    acknowledged: list[Acknowledgement],
    presented: list[Acknowledgement],
) -> None:
    """Fails unless the store is whole, and works: with some of the keys presented to it."""
    async with read(url) as query:
        states = await verify(query, acknowledged)
    store = await open_store(url)
    await assert_usable(store, states, presented)
    await store.close()


def kill_rounds(processes: ForkServerContext, url: str, read: Read, seed: int) -> None:
    """Starts the load, kills it and looks at what is left, many times over on one store."""
    chance = random.Random(seed)
    root = asyncio.run(prepare(url))
    acknowledged: list[Acknowledgement] = []
    for _ in range(ROUNDS):
        victim = start(processes, url, root, chance.getrandbits(32))
        victim.listen_for(chance.uniform(0, LONGEST_SECONDS))
        victim.kill()
        acknowledged += victim.acknowledged
        asyncio.run(look_at(read, url, acknowledged, victim.acknowledged))
    asyncio.run(look_at(read, url, acknowledged, acknowledged))


@pytest.mark.parametrize("seed", SEEDS)
def test_sqlite_survives_the_process_being_killed(
    processes: ForkServerContext, sqlite_url: str, seed: int
) -> None:
    kill_rounds(processes, sqlite_url, read_sqlite, seed)
    with contextlib.closing(sqlite3.connect(parse_database_url(sqlite_url).path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.postgres
@pytest.mark.parametrize("seed", SEEDS)
def test_postgresql_survives_the_process_being_killed(
    processes: ForkServerContext, durable_url: str, seed: int
) -> None:
    kill_rounds(processes, durable_url, read_postgresql, seed)


@pytest.mark.postgres
@pytest.mark.parametrize("seed", SERVER_SEEDS)
def test_postgresql_itself_being_killed_loses_nothing_that_was_acknowledged(
    processes: ForkServerContext, durable_server: PostgresServer, durable_url: str, seed: int
) -> None:
    """The load is told that the store is unavailable, and in some rounds killed as well."""
    chance = random.Random(seed)
    root = asyncio.run(prepare(durable_url))
    acknowledged: list[Acknowledgement] = []
    for number in range(SERVER_ROUNDS):
        victim = start(processes, durable_url, root, chance.getrandbits(32))
        victim.listen_for(chance.uniform(0, LONGEST_SECONDS))
        durable_server.kill()
        if number % 2:
            victim.kill()
        else:
            victim.wait()
            assert victim.process.exitcode == 0
        durable_server.start()
        acknowledged += victim.acknowledged
        asyncio.run(look_at(read_postgresql, durable_url, acknowledged, acknowledged))
