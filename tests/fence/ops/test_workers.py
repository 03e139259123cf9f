"""`keyfence serve --workers N`: several processes on one port and one SQLite file."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import grpc
import psutil
import pytest

from keyfence import Client, RateLimit
from keyfence.v1 import authorization_service_pb2 as messages
from keyfence.v1 import authorization_service_pb2_grpc as stubs
from keyfence.v1.rate_limit_pb2 import RATE_LIMIT_COUNT_LOCAL
from keyfence_server.coherence.terms import LeaseTerms
from support.served import COMMAND, environment_without_settings

EXAMPLES: Final = Path(__file__).parents[3] / "examples" / "keyspaces"
PATIENCE_SECONDS: Final = 90
LEASE: Final = LeaseTerms(length=1.0)
MARGIN_SECONDS: Final = 5.0
"""What a machine that others use may be late by."""

pytestmark = pytest.mark.slow


class Workers:
    """A server with several workers, from its first start to `stop`."""

    def __init__(self, directory: Path, count: int, listen: str = "127.0.0.1:0") -> None:
        self.directory = directory
        self.process = subprocess.Popen(
            [*COMMAND, "serve", "--workers", str(count)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=directory,
            env=environment_without_settings(
                {
                    "KEYFENCE_LISTEN": listen,
                    "KEYFENCE_DATA_DIR": str(directory / "data"),
                    "KEYFENCE_BOOTSTRAP_KEYSPACES": str(EXAMPLES / "demo.yaml"),
                    "KEYFENCE_LEASE_SECONDS": str(LEASE.length),
                    "KEYFENCE_LOG_FORMAT": "json",
                }
            ),
        )
        self.output = ""
        self._said = threading.Condition()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        said = self.wait_for(f'"workers": {count}')
        self.target = re.findall(r'"address": "([0-9.]+:[0-9]+)", "workers"', said)[0]
        self.root = (directory / "data" / "root.key").read_text().strip()

    def wait_for(self, text: str) -> str:
        """Waits until the server has written this, and returns all that it has written."""
        with self._said:
            assert self._said.wait_for(
                lambda: text in self.output or self.process.poll() is not None, PATIENCE_SECONDS
            ), self.output
        assert text in self.output, self.output
        return self.output

    def pids(self) -> list[int]:
        """The workers' processes."""
        return [one.pid for one in psutil.Process(self.process.pid).children()]

    def stop(self) -> int:
        """Tells the server to stop, and returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE_SECONDS)
        finally:
            self.process.kill()
            self.process.wait()
            self._listener.join(PATIENCE_SECONDS)
            assert self.process.stdout is not None
            self.process.stdout.close()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._said:
                self.output += line
                self._said.notify_all()


@pytest.fixture
def workers() -> Iterator[Workers]:
    with TemporaryDirectory(prefix="kf") as name:
        server = Workers(Path(name), 2)
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def many_connections(target: str, count: int = 16) -> Iterator[list[grpc.Channel]]:
    """Connections of their own: the kernel spreads them over those who share the port."""
    channels = [
        grpc.insecure_channel(
            target, options=[("grpc.use_local_subchannel_pool", 1), ("keyfence.test", number)]
        )
        for number in range(count)
    ]
    try:
        yield channels
    finally:
        for channel in channels:
            channel.close()


def allowed(channel: grpc.Channel, token: str, api_key: str) -> bool:
    answer = stubs.AuthorizationServiceStub(channel).Authenticate(
        messages.AuthenticateRequest(api_key=api_key),
        metadata=(("authorization", f"Bearer {token}"),),
        timeout=20,
        wait_for_ready=True,
    )
    return bool(answer.authenticated)


def connected(pid: int) -> int:
    """How many clients a process has."""
    return sum(one.status == "ESTABLISHED" for one in psutil.Process(pid).net_connections("tcp"))


def test_a_revocation_through_one_worker_holds_at_all(workers: Workers) -> None:
    """Threat 1: each worker has a memory of its own."""
    with (
        Client(workers.target, token=workers.root) as client,
        many_connections(workers.target) as channels,
    ):
        for _ in range(5):
            made = client.create_key(keyspace="demo", account_id="a", scopes=["vps:read"])
            assert all(allowed(one, workers.root, made.api_key) for one in channels)
            client.revoke_key(made.key.key_id)
            assert not any(allowed(one, workers.root, made.api_key) for one in channels)
        assert all(connected(pid) for pid in workers.pids()), "one worker had all connections"
    assert workers.stop() == 0
    assert workers.output.count("This is its first start.") == 1


def test_workers_say_that_each_counts_rate_limits_by_itself(workers: Workers) -> None:
    """What a limit lets through is then as many times as much as there are workers."""
    said = workers.wait_for("rate_limits_counted_separately")
    with (
        Client(workers.target, token=workers.root) as client,
        many_connections(workers.target) as channels,
    ):
        made = client.create_key(
            keyspace="demo", account_id="a", rate_limit=RateLimit(1, timedelta(days=1))
        )
        answers = [
            stubs.AuthorizationServiceStub(channel).Authenticate(
                messages.AuthenticateRequest(api_key=made.api_key),
                metadata=(("authorization", f"Bearer {workers.root}"),),
            )
            for channel in channels
        ]
    assert {one.rate_limit.count for one in answers} == {RATE_LIMIT_COUNT_LOCAL}
    assert sum(one.authenticated for one in answers) == 2
    assert said.count("rate_limits_counted_separately") == 1
    assert '"processes": 2' in said


def test_a_worker_that_is_killed_takes_nothing_with_it(workers: Workers) -> None:
    """The others go on; a revocation waits for the dead one's lease at most, and for the
    next one not at all; another worker takes its place."""
    with Client(workers.target, token=workers.root, timeout_seconds=30) as client:
        made = [
            client.create_key(keyspace="demo", account_id="a", scopes=["vps:read"]).key.key_id
            for _ in range(6)
        ]
        before = workers.pids()
        os.kill(before[1], signal.SIGKILL)
        # The connection may have been the dead one's: the client makes another.
        began = time.monotonic()
        client.revoke_key(made[0])
        assert time.monotonic() - began < LEASE.wait + MARGIN_SECONDS
        workers.wait_for("worker_serving_again")
        assert set(workers.pids()) - set(before)
        struck_off = time.monotonic() + LEASE.wait * 2 + MARGIN_SECONDS
        quickest = float("inf")
        for key_id in made[1:]:
            began = time.monotonic()
            client.revoke_key(key_id)
            quickest = min(quickest, time.monotonic() - began)
        assert time.monotonic() < struck_off + LEASE.wait * len(made)
        assert quickest < LEASE.length, "every revocation waits for the dead one's lease"


def end_of_another(directory: Path, *arguments: str, **settings: str) -> str:
    """What a second server says, which must be refused."""
    ended = subprocess.run(
        [*COMMAND, "serve", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
        timeout=PATIENCE_SECONDS,
        env=environment_without_settings(settings),
    )
    assert ended.returncode == 5, ended
    return ended.stderr


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["alone", "with workers"])
def test_a_second_server_is_refused_the_port_and_the_directory(
    workers: Workers, arguments: tuple[str, ...]
) -> None:
    """Threat 21: the port is shared among the workers, so the kernel would let another
    server of the same user have a share of the calls."""
    port = end_of_another(
        workers.directory,
        *arguments,
        KEYFENCE_LISTEN=workers.target,
        KEYFENCE_DATA_DIR=str(workers.directory / "other"),
    )
    assert f"cannot listen on {workers.target}: Address already in use" in port
    directory = end_of_another(
        workers.directory,
        *arguments,
        KEYFENCE_LISTEN="127.0.0.1:0",
        KEYFENCE_DATA_DIR=str(workers.directory / "data"),
    )
    assert "another server uses" in directory


def test_workers_end_with_their_parent_and_hold_the_directory_until_then(
    workers: Workers,
) -> None:
    """A worker that outlives its parent goes on answering from memory, under a lease that a
    server which has the file to itself does not wait for."""
    pids = workers.pids()
    workers.process.kill()
    workers.process.wait()
    gone, alive = psutil.wait_procs(
        [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], PATIENCE_SECONDS
    )
    assert not alive, gone
