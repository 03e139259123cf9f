"""The servers of `bench.scale`: each on a large or a small store, to be started and stopped."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import grpc
import psutil
from google.protobuf.message import Message

from bench.large_store import KEYSPACE, LIMITED, LargeStore, fill_postgresql, fill_sqlite
from bench.processes import (
    ROOT,
    ServerProcess,
    environment,
    running,
    until_answering,
    wait_until_ready,
)
from keyfence.v1 import keyspace_pb2
from keyfence.v1 import keyspace_service_pb2 as messages
from keyfence_server.adapters.files.secret_lines import parse_peppers
from keyfence_server.adapters.keyspace_files.reading import read_keyspace_file
from keyfence_server.adapters.sql import upgrade
from keyfence_server.application.first_start import new_root_credential
from keyfence_server.domain.keyspaces import Keyspace
from testkit.postgres import PostgresServer

SMALL: Final = 1_000
"""How many keys a small store has."""
IN_FLIGHT: Final = 16

_PEPPER: Final = "1:" + "A" * 44
_FILE: Final = ROOT / "bench/scale.yaml"
_LARGE_MESSAGES: Final = [("grpc.max_receive_message_length", -1)]
_DEADLINE_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured.

    Attributes:
        keys: of the large store.
        rounds: of what is compared, in turn.
        cold: keys that a round of cold checks presents once, at most 900.
        batched: keys that a round of cold batches presents once.
        hot: checks of a round from memory.
        cached: keys that are loaded to see what they take of memory.
        many_checks: checks from memory, after which the memory of the process is compared with that
            after a hundredth of them.
    """

    keys: int = 1_000_000
    rounds: int = 5
    cold: int = 900
    batched: int = 6_400
    hot: int = 6_400
    cached: int = 20_000
    many_checks: int = 10_000_000

    @property
    def known(self) -> int:
        """How many keys of the large store have plaintexts that the benchmark knows."""
        return max(self.cached, self.batched, self.cold) + LIMITED


SMOKE: Final = Sizes(
    keys=10_000, rounds=1, cold=64, batched=640, hot=160, cached=1_000, many_checks=2_560
)


@dataclass(frozen=True, slots=True)
class Site:
    """A server on a store, to be started and stopped.

    Attributes:
        settings: of the server, as variables.
        store: what is in the store.
        database: the postmaster of the database; None where the database is in the server.
    """

    name: str
    target: str
    token: str
    settings: dict[str, str]
    store: LargeStore
    database: psutil.Process | None

    @contextmanager
    def served(self) -> Iterator[Server]:
        """The server, while the block runs."""
        command = [sys.executable, "-m", "keyfence_server", "serve"]
        with running(command, self._variables(), until_answering(self.target)) as process:
            yield Server(ServerProcess(self.name, self.target, self.token, process), self)

    @contextmanager
    def watched(self) -> Iterator[tuple[Server, Callable[[], list[float]]]]:
        """The server, and what reads its `bench.watched_server`."""
        child = subprocess.Popen(
            [sys.executable, "-m", "bench.watched_server"],
            cwd=ROOT,
            env=self._variables(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            wait_until_ready(child, until_answering(self.target))

            def read() -> list[float]:
                assert child.stdin is not None
                assert child.stdout is not None
                child.stdin.write("\n")
                child.stdin.flush()
                return [float(one) for one in child.stdout.readline().split()]

            process = ServerProcess(self.name, self.target, self.token, psutil.Process(child.pid))
            yield Server(process, self), read
        finally:
            child.kill()
            child.communicate()

    def _variables(self) -> dict[str, str]:
        return {**environment(), **self.settings}


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs."""

    process: ServerProcess
    site: Site

    def cpu_seconds(self) -> float:
        """The processor time of the server and its database so far."""
        used = self.process.cpu_seconds()
        postmaster = self.site.database
        if postmaster is not None:
            times = postmaster.cpu_times()
            # Connections that have ended count, too.
            used += times.user + times.system + times.children_user + times.children_system
            for child in postmaster.children():
                times = child.cpu_times()
                used += times.user + times.system
        return used

    def resident_bytes(self) -> int:
        """What the server's process has of memory."""
        resident: int = self.process.process.memory_info().rss
        return resident

    async def send(
        self, method: str, requests: Sequence[bytes], in_flight: int = IN_FLIGHT
    ) -> tuple[float, list[bytes]]:
        """Sends each request once.

        Returns:
            Microseconds of processor time a call, and the answers in no order.
        """
        waiting = iter(requests)
        answers: list[bytes] = []
        async with self.channel() as channel:
            await channel.channel_ready()
            ask = self.method(channel, method)

            async def one_after_the_other() -> None:
                answers.extend([await ask(request) for request in waiting])

            cpu = self.cpu_seconds()
            await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))
            used = self.cpu_seconds() - cpu
        return used / len(answers) * 1e6, answers

    async def call(self, method: str, request: Message) -> bytes:
        """One call."""
        async with self.channel() as channel:
            answer: bytes = await self.method(channel, method)(request.SerializeToString())
        return answer

    def channel(self) -> grpc.aio.Channel:
        """A new channel to the server."""
        return grpc.aio.insecure_channel(self.process.target, options=_LARGE_MESSAGES)

    def method(self, channel: grpc.aio.Channel, method: str) -> Any:
        """Calls a method with an encoded request."""
        send: Any = channel.unary_unary(f"/keyfence.v1.{method}")
        metadata = [("authorization", f"Bearer {self.process.token}")]
        return lambda request: send(request, metadata=metadata, timeout=_DEADLINE_SECONDS)

    async def change_keyspace(self, number: int) -> None:
        """Changes the keyspace's description, so that the server forgets every key."""
        await self._apply(lambda keyspace: setattr(keyspace, "description", f"state {number}"))

    async def change_scopes(self, number: int) -> None:
        """Changes what `vps:write` implies: most keys gain or lose a scope."""

        def change(keyspace: keyspace_pb2.Keyspace) -> None:
            for scope in keyspace.scopes:
                if scope.name == "vps:write":
                    scope.implies[:] = ["vps:read", *["billing:read"] * (number % 2)]

        await self._apply(change)

    async def _apply(self, change: Callable[[keyspace_pb2.Keyspace], None]) -> None:
        read = await self.call(
            "KeyspaceService/GetKeyspace", messages.GetKeyspaceRequest(name=KEYSPACE)
        )
        keyspace = messages.GetKeyspaceResponse.FromString(read).keyspace
        change(keyspace)
        await self.call(
            "KeyspaceService/ApplyKeyspace", messages.ApplyKeyspaceRequest(keyspace=keyspace)
        )


@contextmanager
def sqlite_sites(directory: Path, sizes: Sizes) -> Iterator[tuple[Site, Site]]:
    """A large and a small store on SQLite."""
    yield (
        _sqlite_site(directory / "large", sizes.keys, sizes.known),
        _sqlite_site(directory / "small", SMALL, SMALL),
    )


def _sqlite_site(directory: Path, count: int, known: int) -> Site:
    directory.mkdir()
    site = _site("SQLite", directory, {}, None)
    with site.served():
        pass
    token = (directory / "data" / "root.key").read_text().strip()
    path = str(directory / "data" / "keyfence.db")
    store = fill_sqlite(path, _keyspace(), parse_peppers(_PEPPER), count=count, known=known)
    return replace(site, token=token, store=store)


@contextmanager
def postgresql_sites(directory: Path, sizes: Sizes) -> Iterator[tuple[Site, Site]]:
    """A large and a small store on one PostgreSQL."""
    settings = ("shared_buffers=256MB", "max_wal_size=2GB")
    postgres = PostgresServer(settings=settings)
    try:
        postgres.start()
        yield (
            _postgresql_site(directory / "pg-large", postgres, sizes.keys, sizes.known),
            _postgresql_site(directory / "pg-small", postgres, SMALL, SMALL),
        )
    finally:
        postgres.close()


def _postgresql_site(directory: Path, postgres: PostgresServer, count: int, known: int) -> Site:
    directory.mkdir()
    url = postgres.url(postgres.create_database())
    asyncio.run(upgrade(url))
    token = new_root_credential().reveal()
    settings = {"KEYFENCE_DATABASE_URL": url, "KEYFENCE_ROOT_KEY": token}
    site = _site("PostgreSQL", directory, settings, psutil.Process(postgres.pid))
    with site.served():
        pass
    store = fill_postgresql(url, _keyspace(), parse_peppers(_PEPPER), count=count, known=known)
    return replace(site, token=token, store=store)


def _site(
    name: str, directory: Path, settings: dict[str, str], database: psutil.Process | None
) -> Site:
    target = f"unix:{directory / 's'}"
    every = {
        "KEYFENCE_LISTEN": target,
        "KEYFENCE_DATA_DIR": str(directory / "data"),
        "KEYFENCE_PEPPER": _PEPPER,
        "KEYFENCE_BOOTSTRAP_KEYSPACES": str(_FILE),
        "KEYFENCE_LOG_LEVEL": "error",
        **settings,
    }
    return Site(name, target, "", every, LargeStore((), "", "", ""), database)


def _keyspace() -> Keyspace:
    return read_keyspace_file(_FILE).keyspace
