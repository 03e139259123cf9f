"""Who is in a fleet: what each process is started with, and which way leads where."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fence.torture.members import Member, Worker
from fence.torture.wallclock import WallClocks
from keyfence_server.application.first_start import new_root_credential
from support.served import COMMAND, environment_without_settings
from testkit.ports import free_port
from testkit.postgres import SOCKET_NAME, PostgresServer

SERVERS: Final = 3
SIDECARS: Final = 2
DATABASE: Final = "database"
REPLICATION: Final = "replication"
_PEPPER: Final = "1:" + "A" * 44


@dataclass(frozen=True, slots=True)
class Holder:
    """One way to ask.

    Attributes:
        is_in_process: whether the asking process answers most by itself.
        language: the one that the asking client is written in.
    """

    name: str
    is_in_process: bool
    language: str = "python"


class Blueprint:
    """Draws a fleet up. Nothing is started yet.

    Args:
        broken: the build, with a guard missing; None: the product as it is.
        twice: whether messages come twice.
        hasty: whether the writer never waits long for an answer.

    Attributes:
        sockets: where each server and sidecar listens, by its name, as gRPC targets.
        links: where each link listens and connects to.
        holders: what the numbers of holders in the records mean.
    """

    def __init__(
        self,
        directory: Path,
        seed: int,
        lease_seconds: float,
        clocks: WallClocks,
        *,
        broken: str | None,
        twice: bool,
        hasty: bool,
    ) -> None:
        self.sockets: dict[str, str] = {}
        self.links: dict[str, tuple[str, str]] = {}
        self.holders: list[Holder] = []
        self._directory = directory
        self._seed = seed
        self._lease_seconds = lease_seconds
        self._broken = broken
        self._twice = twice
        self._hasty = hasty
        self._clocks = clocks
        self._token = new_root_credential().reveal()
        (directory / "keys").touch()

    def servers(
        self, postgres: PostgresServer, database: str, replication: Path
    ) -> list[Member | Worker]:
        """Three servers on PostgreSQL, and the way on which its standby finds it."""
        replication.mkdir()
        self.links[REPLICATION] = (f"{replication / SOCKET_NAME}", str(postgres.socket))
        return [self._server(number, postgres, database) for number in range(SERVERS)]

    def workers(self) -> list[Member | Worker]:
        """Three workers on a SQLite file, and their parent."""
        address = f"127.0.0.1:{free_port()}"
        parent = self._keyfence(
            "parent",
            "serve",
            {
                "KEYFENCE_LISTEN": address,
                "KEYFENCE_DATA_DIR": str(self._directory / "data"),
                "KEYFENCE_ROOT_KEY": self._token,
                "KEYFENCE_WORKERS": str(SERVERS),
            },
        )
        self.sockets["parent"] = address
        for number in range(SERVERS):
            door = str(self._directory / f"door{number}")
            self.links[f"door{number}"] = (door, address)
            self.sockets[f"server{number}"] = f"unix:{door}"
        return [*(Worker(f"worker{one}", parent, one) for one in range(SERVERS)), parent]

    def sidecars(self) -> list[Member]:
        """Two sidecars of all three servers."""
        return [self._sidecar(f"sidecar{number}") for number in range(SIDECARS)]

    def clients(self) -> list[Member]:
        """Two processes that ask: one by its event loop, one in threads."""
        return [
            self._client(
                "async",
                ("cache", "server0", True),
                ("cache", "sidecar0", True),
                ("calls", "server0", False),
                ("calls", "server1", False),
                ("calls", "server2", False),
            ),
            self._client(
                "threads",
                ("threads", "server1", True),
                ("threads", "sidecar1", True),
                ("calls", "sidecar0", False),
                ("calls", "sidecar1", False),
            ),
        ]

    def programs(self, commands: Mapping[str, list[str]]) -> list[Member | Worker]:
        """Clients of other languages, each with a cache, and the process that asks them."""
        targets = ("server2", "sidecar0", "server0", "sidecar1")
        asked = []
        for number, (language, command) in enumerate(commands.items()):
            whom = targets[(number + self._seed) % len(targets)]
            one = self._ask(language, "program", whom, through_link=True, language=language)
            asked.append({**one, "command": command})
        if not asked:
            return []
        asking = self._prober("programs", asked)
        return [asking, *(Worker(name, asking, one) for one, name in enumerate(commands))]

    def writer(self) -> Member:
        """The process that changes things."""
        config = {
            "token": self._token,
            "seed": self._seed,
            "hasty": self._hasty,
            "keys": str(self._directory / "keys"),
            "history": str(self._directory / "history"),
            "targets": [self.sockets[f"server{number}"] for number in range(SERVERS)],
        }
        return self._script("writer", "fence.torture.writer", config)

    def _server(self, number: int, postgres: PostgresServer, database: str) -> Member:
        behind = self._directory / f"pg{number}"
        behind.mkdir()
        self.links[f"server{number}-{DATABASE}"] = (
            f"{behind / SOCKET_NAME}",
            str(postgres.socket),
        )
        url, _, _ = postgres.url(database).partition("?host=")
        return self._keyfence(
            f"server{number}",
            "serve",
            {
                "KEYFENCE_DATA_DIR": str(self._directory / f"server{number}.data"),
                "KEYFENCE_DATABASE_URL": f"{url}?host={behind}",
                "KEYFENCE_PEPPER": _PEPPER,
                "KEYFENCE_ROOT_KEY": self._token,
            },
        )

    def _sidecar(self, name: str) -> Member:
        upstream = [self._linked(name, f"server{number}") for number in range(SERVERS)]
        return self._keyfence(
            name,
            "sidecar",
            {"KEYFENCE_UPSTREAM": ",".join(upstream), "KEYFENCE_UPSTREAM_TOKEN": self._token},
        )

    def _keyfence(self, name: str, verb: str, settings: dict[str, str]) -> Member:
        self.sockets[name] = f"unix:{self._directory / name}.sock"
        if self._broken is not None:
            command = [sys.executable, "-m", "fence.torture.broken", self._broken]
        elif self._twice:
            command = [sys.executable, "-m", "fence.torture.twice"]
        else:
            command = list(COMMAND)
        return self._member(
            name,
            [*command, verb],
            {
                "KEYFENCE_LISTEN": self.sockets[name],
                "KEYFENCE_LEASE_SECONDS": str(self._lease_seconds),
                # Shorter than most leases: who ends has granted some that are alive.
                "KEYFENCE_DRAIN_SECONDS": "0.3",
                "KEYFENCE_LOG_LEVEL": "warning",
                **settings,
            },
        )

    def _client(self, name: str, *asked: tuple[str, str, bool]) -> Member:
        return self._prober(name, [self._ask(name, *one) for one in asked])

    def _prober(self, name: str, asked: Sequence[Mapping[str, Any]]) -> Member:
        config = {
            "token": self._token,
            "seed": self._seed,
            "broken": self._broken,
            "twice": self._twice,
            "keys": str(self._directory / "keys"),
            "records": str(self._directory / f"{name}.records"),
            "asked": asked,
        }
        return self._script(name, "fence.torture.prober", config)

    def _ask(
        self, client: str, kind: str, whom: str, through_link: bool, language: str = "python"
    ) -> dict[str, Any]:
        number = len(self.holders)
        is_in_process = kind != "calls"
        name = f"{kind if language == 'python' else language} at {whom}"
        self.holders.append(Holder(name, is_in_process, language))
        return {
            "number": number,
            "kind": kind,
            "target": self._linked(client, whom) if through_link else self.sockets[whom],
            "burst": 10 if is_in_process else 1,
            "pause": 0.02 if is_in_process else 0.05,
        }

    def _script(self, name: str, module: str, config: dict[str, Any]) -> Member:
        path = self._directory / f"{name}.json"
        path.write_text(json.dumps(config))
        return self._member(name, (sys.executable, "-m", module, str(path)), {})

    def _member(self, name: str, command: Sequence[str], settings: Mapping[str, str]) -> Member:
        environment = environment_without_settings(
            {
                **settings,
                **self._clocks.environment(name),
                "PYTHONPATH": os.pathsep.join(sys.path),
                "PYTHONFAULTHANDLER": "1",
                "GRPC_VERBOSITY": "NONE",
            }
        )
        return Member(name, command, environment, self._directory / f"{name}.log")

    def _linked(self, client: str, server: str) -> str:
        listen = f"{self._directory / client}-{server}"
        self.links[f"{client}-{server}"] = (listen, self.sockets[server].removeprefix("unix:"))
        return f"unix:{listen}"
