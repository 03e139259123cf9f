"""Everything that runs: a database, servers, sidecars, clients, and proxies between them.

    clients ──links──> servers ──links──> PostgreSQL ──link──> its standby
       └─────links──> sidecars ──links──> servers

On SQLite the servers are workers on one file, and the links lead to the port that they
share, where the kernel says which of them a connection gets.

Every process is a real one, started by its real command, on Unix sockets in a directory
that is removed at the end. The links are `proxy`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fence.torture.blueprint import DATABASE, REPLICATION, Blueprint, Holder
from fence.torture.members import Member, Worker
from fence.torture.wallclock import WallClock, WallClocks
from keyfence_server.adapters.sql import upgrade
from testkit.links import Links
from testkit.postgres_pair import PostgresPair
from testkit.proxy import Mode

_START_SECONDS: Final = 60


@dataclass
class Fleet:
    """What runs, and where to get at it.

    Attributes:
        holders: what the numbers of holders in the records mean.
        links: those that can be broken, by name.
        servers, sidecars, clients: the processes that can be; on SQLite the servers are
            workers, and their parent; clients of other languages are children of the process
            that asks them.
        clocks: the wall clocks that can be stepped, by whose they are.
    """

    directory: Path
    postgres: PostgresPair | None
    servers: list[Member | Worker]
    sidecars: list[Member]
    clients: list[Member | Worker]
    writer: Member
    holders: list[Holder]
    records: list[Path]
    links: list[str]
    clocks: dict[str, WallClock]
    _proxy: Links

    def set_link(self, name: str, mode: Mode, seconds: float = 0.0) -> None:
        """Breaks a link, or heals it."""
        self._proxy.set(name, mode, seconds)

    def follow_primary(self) -> None:
        """Has new connections to the database lead to what is the primary now."""
        assert self.postgres is not None
        for name in self.links:
            if name.endswith(f"-{DATABASE}") or name == REPLICATION:
                self._proxy.redirect(name, self.postgres.primary.socket)

    @property
    def asking(self) -> list[Member]:
        """The processes that ask and that change things. None of them ends by itself."""
        return [*(one for one in self.clients if isinstance(one, Member)), self.writer]

    @property
    def history(self) -> Path:
        """What the writer has done."""
        return self.directory / "history"


@contextlib.contextmanager
def running_fleet(
    seed: int,
    *,
    lease_seconds: float,
    broken: str | None,
    twice: bool,
    hasty: bool,
    sqlite: bool,
    programs: Mapping[str, list[str]],
) -> Iterator[Fleet]:
    """A fleet, from its first start to its end.

    Args:
        programs: the commands of the clients of other languages, by language.
    """
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="kf-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        # PostgreSQL may run as another user.
        directory.chmod(0o755)
        clocks = WallClocks(directory)
        blueprint = Blueprint(
            directory, seed, lease_seconds, clocks, broken=broken, twice=twice, hasty=hasty
        )
        postgres: PostgresPair | None = None
        if sqlite:
            servers = blueprint.workers()
        else:
            way = directory / REPLICATION
            postgres = PostgresPair(way, clocks.environment(DATABASE))
            stack.callback(postgres.close)
            postgres.primary.start()
            database = postgres.primary.create_database()
            asyncio.run(upgrade(postgres.primary.url(database)))
            servers = blueprint.servers(postgres.primary, database, way)
        sidecars, writer = blueprint.sidecars(), blueprint.writer()
        clients = [*blueprint.clients(), *blueprint.programs(programs)]
        proxy = Links(blueprint.links)
        stack.callback(proxy.close)
        if postgres is not None:
            postgres.replicate()
        first, *others = [one for one in (*servers, *sidecars) if isinstance(one, Member)]
        # The first one finds an empty store.
        for together in ([first], others):
            for member in together:
                stack.callback(member.end)
                member.start()
            for member in together:
                _wait_until_reachable(member, blueprint.sockets[member.name])
        asking = [one for one in clients if isinstance(one, Member)]
        for member in (*asking, writer):
            stack.callback(member.end)
            member.start()
        yield Fleet(
            directory=directory,
            postgres=postgres,
            servers=servers,
            sidecars=sidecars,
            clients=clients,
            writer=writer,
            holders=blueprint.holders,
            records=[
                directory / f"{one.name}.records" for one in clients if isinstance(one, Member)
            ],
            links=list(blueprint.links),
            clocks=clocks.by_name,
            _proxy=proxy,
        )


def _wait_until_reachable(member: Member, target: str) -> None:
    # Not by gRPC: its threads do not survive that this process forks for the database.
    until = time.monotonic() + _START_SECONDS
    path = target.removeprefix("unix:")
    host, _, port = target.rpartition(":")
    while time.monotonic() < until and not member.has_ended:
        family = socket.AF_UNIX if path != target else socket.AF_INET
        with socket.socket(family) as one, contextlib.suppress(OSError):
            one.connect(path if path != target else (host, int(port)))
            return
        time.sleep(0.05)
    raise RuntimeError(f"{member.name} did not start:\n{member.log.read_text()[-3000:]}")
