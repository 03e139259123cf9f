"""Everything that runs: a database, servers, sidecars, clients, and proxies between them.

    clients ──links──> servers ──links──> PostgreSQL
       └─────links──> sidecar ──links──> servers

On SQLite the servers are workers on one file, and the links lead to the port that they
share, where the kernel says which of them a connection gets.

Every process is a real one, started by its real command, on Unix sockets in a directory
that is removed at the end. The links are `proxy`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from fence.torture.links import Links
from fence.torture.proxy import Mode
from keyfence_server.adapters.sql import upgrade
from keyfence_server.application.first_start import new_root_credential
from support.postgres import PostgresServer
from support.served import COMMAND, environment_without_settings

SERVERS: Final = 3
_START_SECONDS: Final = 60
_STOP_SECONDS: Final = 15
_PEPPER: Final = "1:" + "A" * 44


@dataclass
class Member:
    """A process that may be killed, stopped and started again."""

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it. It may take a while until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """`kill -9`."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @property
    def has_ended_by_itself(self) -> bool:
        """Whether it is gone though nobody has killed it."""
        return self.process is not None and self.process.poll() is not None

    def children(self) -> list[psutil.Process]:
        """The processes that it has started, the oldest first."""
        if self.process is None or self.process.poll() is not None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children()
        return []

    def end(self) -> None:
        """Lets it stop in order; if it does not, ends it."""
        children = self.children()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.resume()
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        if self.process is not None:
            try:
                self.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


@dataclass
class Worker:
    """One of the workers of a server, whose parent starts another in its place."""

    name: str
    parent: Member
    number: int
    _stopped: psutil.Process | None = None
    has_ended_by_itself: bool = False

    def start(self) -> None:
        """Nothing to do: the parent has."""

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal; what continues is what was stopped."""
        if number is signal.SIGSTOP:
            self._stopped = self._find()
        if self._stopped is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._stopped.send_signal(number)

    def kill(self) -> None:
        """`kill -9`."""
        worker = self._find()
        if worker is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()

    def _find(self) -> psutil.Process | None:
        workers = self.parent.children()
        return workers[self.number % len(workers)] if workers else None


@dataclass
class Fleet:
    """What runs, and where to get at it.

    Attributes:
        holders: what the numbers of holders in the records mean.
        links: those that can be broken, by name.
        servers, sidecars, clients: the processes that can be; on SQLite the servers are
            workers, and their parent.
    """

    directory: Path
    postgres: PostgresServer | None
    servers: list[Member | Worker]
    sidecars: list[Member]
    clients: list[Member]
    writer: Member
    links: list[str]
    holders: list[str]
    _proxy: Links
    records: list[Path] = field(default_factory=list)

    def set_link(self, name: str, mode: Mode, seconds: float = 0.0) -> None:
        """Breaks a link, or heals it."""
        self._proxy.set(name, mode, seconds)

    @property
    def history(self) -> Path:
        """What the writer has done."""
        return self.directory / "history"


@contextlib.contextmanager
def running_fleet(
    seed: int, *, lease_seconds: float, broken: str | None, sqlite: bool
) -> Iterator[Fleet]:
    """A fleet, from its first start to its end."""
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="kf-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        directory.chmod(0o755)
        builder = _Builder(directory, seed, lease_seconds, broken)
        if sqlite:
            fleet = builder.build(None, builder.workers())
        else:
            postgres = PostgresServer()
            stack.callback(postgres.close)
            postgres.start()
            database = postgres.create_database()
            asyncio.run(upgrade(postgres.url(database)))
            fleet = builder.build(postgres, builder.servers(postgres, database))
        stack.callback(fleet._proxy.close)
        for member in (*fleet.servers, *fleet.sidecars):
            if isinstance(member, Member):
                stack.callback(member.end)
                member.start()
                _wait_until_reachable(member, builder.sockets[member.name])
        for member in (*fleet.clients, fleet.writer):
            stack.callback(member.end)
            member.start()
        yield fleet


class _Builder:
    def __init__(
        self, directory: Path, seed: int, lease_seconds: float, broken: str | None
    ) -> None:
        self.token = new_root_credential().reveal()
        self.sockets: dict[str, str] = {}
        self._directory = directory
        self._seed = seed
        self._broken = broken
        self._lease_seconds = lease_seconds
        self._links: dict[str, tuple[str, str]] = {}
        self._holders: list[str] = []
        (directory / "keys").touch()

    def servers(self, postgres: PostgresServer, database: str) -> list[Member | Worker]:
        """Three servers on PostgreSQL."""
        return [self._server(number, postgres, database) for number in range(SERVERS)]

    def workers(self) -> list[Member | Worker]:
        """Three workers on a SQLite file, and their parent."""
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{one.getsockname()[1]}"
        parent = self._keyfence(
            "parent",
            "serve",
            {
                "KEYFENCE_LISTEN": address,
                "KEYFENCE_DATA_DIR": str(self._directory / "data"),
                "KEYFENCE_ROOT_KEY": self.token,
                "KEYFENCE_WORKERS": str(SERVERS),
            },
        )
        self.sockets["parent"] = address
        for number in range(SERVERS):
            door = str(self._directory / f"door{number}")
            self._link(f"door{number}", door, address)
            self.sockets[f"server{number}"] = f"unix:{door}"
        return [*(Worker(f"worker{one}", parent, one) for one in range(SERVERS)), parent]

    def build(self, postgres: PostgresServer | None, servers: list[Member | Worker]) -> Fleet:
        """Everyone around the servers."""
        sidecars = [self._sidecar()]
        clients = [
            self._client(
                "async",
                ("cache", "server0", True),
                ("cache", "sidecar", True),
                ("calls", "server0", False),
                ("calls", "server1", False),
                ("calls", "server2", False),
            ),
            self._client(
                "threads",
                ("threads", "server1", True),
                ("threads", "sidecar", True),
                ("calls", "sidecar", False),
            ),
        ]
        return Fleet(
            directory=self._directory,
            postgres=postgres,
            servers=servers,
            sidecars=sidecars,
            clients=clients,
            writer=self._writer(),
            links=list(self._links),
            holders=self._holders,
            _proxy=Links(self._links),
            records=[self._directory / f"{client.name}.records" for client in clients],
        )

    def _server(self, number: int, postgres: PostgresServer, database: str) -> Member:
        behind = self._directory / f"pg{number}"
        behind.mkdir()
        url, _, there = postgres.url(database).partition("?host=")
        name = ".s.PGSQL.5432"
        self._link(f"server{number}-database", f"{behind}/{name}", f"{there}/{name}")
        return self._keyfence(
            f"server{number}",
            "serve",
            {
                "KEYFENCE_DATA_DIR": str(self._directory / f"server{number}.data"),
                "KEYFENCE_DATABASE_URL": f"{url}?host={behind}",
                "KEYFENCE_PEPPER": _PEPPER,
                "KEYFENCE_ROOT_KEY": self.token,
            },
        )

    def _sidecar(self) -> Member:
        upstream = [self._linked("sidecar", f"server{number}") for number in range(SERVERS)]
        return self._keyfence(
            "sidecar",
            "sidecar",
            {"KEYFENCE_UPSTREAM": ",".join(upstream), "KEYFENCE_UPSTREAM_TOKEN": self.token},
        )

    def _keyfence(self, name: str, verb: str, settings: dict[str, str]) -> Member:
        self.sockets[name] = f"unix:{self._directory / name}.sock"
        command = (
            (*COMMAND, verb)
            if self._broken is None
            else (sys.executable, "-m", "fence.torture.broken", self._broken, verb)
        )
        return self._member(
            name,
            command,
            {
                "KEYFENCE_LISTEN": self.sockets[name],
                "KEYFENCE_LEASE_SECONDS": str(self._lease_seconds),
                "KEYFENCE_LOG_LEVEL": "warning",
                **settings,
            },
        )

    def _client(self, name: str, *asked: tuple[str, str, bool]) -> Member:
        config = {
            "token": self.token,
            "seed": self._seed,
            "broken": self._broken,
            "keys": str(self._directory / "keys"),
            "records": str(self._directory / f"{name}.records"),
            "asked": [self._ask(name, *one) for one in asked],
        }
        return self._script(name, "fence.torture.prober", config)

    def _ask(self, client: str, kind: str, whom: str, through_link: bool) -> dict[str, Any]:
        number = len(self._holders)
        self._holders.append(f"{kind} at {whom}")
        cached = kind != "calls"
        return {
            "number": number,
            "kind": kind,
            "target": self._linked(client, whom) if through_link else self.sockets[whom],
            "burst": 40 if cached else 1,
            "pause": 0.02 if cached else 0.1,
        }

    def _writer(self) -> Member:
        config = {
            "token": self.token,
            "seed": self._seed,
            "keys": str(self._directory / "keys"),
            "history": str(self._directory / "history"),
            "targets": [self.sockets[f"server{number}"] for number in range(SERVERS)],
        }
        return self._script("writer", "fence.torture.writer", config)

    def _script(self, name: str, module: str, config: dict[str, Any]) -> Member:
        path = self._directory / f"{name}.json"
        path.write_text(json.dumps(config))
        return self._member(name, (sys.executable, "-m", module, str(path)), {})

    def _member(self, name: str, command: Sequence[str], settings: dict[str, str]) -> Member:
        environment = environment_without_settings(
            {**settings, "PYTHONPATH": os.pathsep.join(sys.path), "GRPC_VERBOSITY": "NONE"}
        )
        return Member(name, command, environment, self._directory / f"{name}.log")

    def _linked(self, client: str, server: str) -> str:
        listen = f"{self._directory / client}-{server}"
        self._link(f"{client}-{server}", listen, self.sockets[server].removeprefix("unix:"))
        return f"unix:{listen}"

    def _link(self, name: str, listen: str, connect: str) -> None:
        self._links[name] = (listen, connect)


def _wait_until_reachable(member: Member, target: str) -> None:
    # Not by gRPC: its threads do not survive that this process forks for the database.
    until = time.monotonic() + _START_SECONDS
    path = target.removeprefix("unix:")
    host, _, port = target.rpartition(":")
    while time.monotonic() < until and not member.has_ended_by_itself:
        family = socket.AF_UNIX if path != target else socket.AF_INET
        with socket.socket(family) as one, contextlib.suppress(OSError):
            one.connect(path if path != target else (host, int(port)))
            return
        time.sleep(0.05)
    raise RuntimeError(f"{member.name} did not start:\n{member.log.read_text()[-3000:]}")
