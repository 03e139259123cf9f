"""Servers on one PostgreSQL, empty servers beside them, and processes to be at fault."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.processes import ROOT, ServerProcess, environment, running, until_answering
from keyfence_server.adapters.sql import upgrade
from keyfence_server.application.first_start import new_root_credential
from testkit.postgres import PostgresServer

SERVERS: Final = 3


@dataclass(frozen=True, slots=True)
class Cluster:
    """Several servers on one database.

    Attributes:
        database_url: past the servers.
        database_pid: of the postmaster.
        times: what `bench.timed_server` has written of them all.
    """

    servers: list[ServerProcess]
    database_url: str
    database_pid: int
    times: list[Path]

    def seconds(self, what: str) -> dict[int, float]:
        """What the commits or the fences took, by revision; of the last if there are several."""
        lines = (line.split() for path in self.times for line in path.read_text().splitlines())
        return {int(revision): float(took) for kind, revision, took in lines if kind == what}


@contextmanager
def cluster(lease_seconds: float) -> Iterator[Cluster]:
    """Three servers on a PostgreSQL that waits for the disk, as one in use does."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kfb-")))
        postgres = PostgresServer(durable=True)
        stack.callback(postgres.close)
        postgres.start()
        url = postgres.url(postgres.create_database())
        asyncio.run(upgrade(url))
        token = new_root_credential().reveal()
        servers, times = [], []
        for number in range(SERVERS):
            target = f"unix:{directory / f's{number}'}"
            times.append(directory / f"times{number}")
            settings = {
                "KEYFENCE_LISTEN": target,
                "KEYFENCE_DATABASE_URL": url,
                "KEYFENCE_PEPPER": "1:" + "A" * 44,
                "KEYFENCE_ROOT_KEY": token,
                "KEYFENCE_DATA_DIR": str(directory / f"data{number}"),
                "KEYFENCE_BOOTSTRAP_KEYSPACES": str(ROOT / "examples/keyspaces/demo.yaml"),
                "KEYFENCE_LEASE_SECONDS": str(lease_seconds),
                "KEYFENCE_LOG_LEVEL": "error",
            }
            command = [sys.executable, "-m", "bench.timed_server", str(times[-1]), "serve"]
            process = stack.enter_context(
                running(command, {**environment(), **settings}, until_answering(target))
            )
            servers.append(ServerProcess(f"server {number}", target, token, process))
        yield Cluster(servers, url, postgres.pid, times)


@contextmanager
def one_server(lease_seconds: float, metrics_port: int = 0) -> Iterator[ServerProcess]:
    """A server alone on an embedded store."""
    with tempfile.TemporaryDirectory(prefix="kfb-") as name:
        directory = Path(name)
        target = f"unix:{directory / 's'}"
        settings = {
            "KEYFENCE_LISTEN": target,
            "KEYFENCE_DATA_DIR": str(directory / "data"),
            "KEYFENCE_BOOTSTRAP_KEYSPACES": str(ROOT / "examples/keyspaces/demo.yaml"),
            "KEYFENCE_LEASE_SECONDS": str(lease_seconds),
            "KEYFENCE_LOG_LEVEL": "error",
        }
        if metrics_port:
            settings["KEYFENCE_METRICS_LISTEN"] = f"127.0.0.1:{metrics_port}"
        command = [sys.executable, "-m", "keyfence_server", "serve"]
        with running(command, {**environment(), **settings}, until_answering(target)) as process:
            token = (directory / "data" / "root.key").read_text().strip()
            yield ServerProcess("server", target, token, process)


@contextmanager
def sidecar(upstream: ServerProcess) -> Iterator[ServerProcess]:
    """A sidecar of that server."""
    with tempfile.TemporaryDirectory(prefix="kfb-") as directory:
        target = f"unix:{Path(directory) / 's'}"
        settings = {
            "KEYFENCE_LISTEN": target,
            "KEYFENCE_UPSTREAM": upstream.target,
            "KEYFENCE_UPSTREAM_TOKEN": upstream.token,
            "KEYFENCE_LOG_LEVEL": "error",
        }
        command = [sys.executable, "-m", "keyfence_server", "sidecar"]
        with running(command, {**environment(), **settings}, until_answering(target)) as process:
            yield ServerProcess("sidecar", target, upstream.token, process)


@contextmanager
def empty_servers(count: int = SERVERS) -> Iterator[list[ServerProcess]]:
    """Empty servers, as many as there are servers in a cluster."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kfb-")))
        servers = []
        for number in range(count):
            target = f"unix:{directory / f'f{number}'}"
            command = [sys.executable, "-m", "bench.fan_out", target]
            process = stack.enter_context(running(command, environment(), until_answering(target)))
            servers.append(ServerProcess(f"empty {number}", target, "", process))
        yield servers


@contextmanager
def holder_process(
    target: str, token: str, count: int, lease_seconds: float, *, is_empty: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """Holders in a process of their own, from when each has a lease."""
    arguments = [target, str(count), str(lease_seconds), *["--empty"] * is_empty]
    child = subprocess.Popen(
        [sys.executable, "-m", "bench.holders", *arguments],
        cwd=ROOT,
        env={**environment(), "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(f"{token}\n".encode())
        child.stdin.flush()
        if not child.stdout.readline():
            raise RuntimeError("the holders did not all get a lease")
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


def leases_had(holders: subprocess.Popen[bytes]) -> int:
    """How many leases the holders of a process have had so far."""
    assert holders.stdin is not None
    assert holders.stdout is not None
    holders.stdin.write(b"\n")
    holders.stdin.flush()
    return int(holders.stdout.readline())
