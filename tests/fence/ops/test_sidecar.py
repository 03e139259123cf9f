"""`keyfence sidecar`: beside an application, through outages short and long."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from keyfence import Client, RateLimit, Unavailable
from support.served import COMMAND, Served, environment_without_settings

EXAMPLES: Final = Path(__file__).parents[3] / "examples" / "keyspaces"
LEASE_SECONDS: Final = 6.0
PATIENCE_SECONDS: Final = 60
SETTINGS: Final = {
    "KEYFENCE_BOOTSTRAP_KEYSPACES": str(EXAMPLES / "demo.yaml"),
    "KEYFENCE_LEASE_SECONDS": str(LEASE_SECONDS),
}


@pytest.fixture
def directory() -> Iterator[Path]:
    with TemporaryDirectory(prefix="kf") as name:
        yield Path(name)


@contextmanager
def sidecar_of(server: Served, more: Mapping[str, str] | None = None) -> Iterator[str]:
    """A sidecar on a Unix socket, and its target."""
    target = f"unix:{server.directory}/sidecar.sock"
    settings = {
        **(more or {}),
        "KEYFENCE_UPSTREAM": server.target,
        "KEYFENCE_UPSTREAM_TOKEN": server.root_key,
        "KEYFENCE_LISTEN": target,
        "KEYFENCE_LEASE_SECONDS": str(LEASE_SECONDS),
    }
    log = (server.directory / "sidecar.log").open("wb")
    with log:
        process = subprocess.Popen(
            [*COMMAND, "sidecar"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=server.directory,
            env=environment_without_settings(settings),
        )
        try:
            until(lambda: health(target) == 0, "the sidecar does not serve")
            yield target
        finally:
            process.terminate()
            assert process.wait(PATIENCE_SECONDS) == 0


def health(target: str, *arguments: str) -> int:
    """The exit code of `keyfence health`."""
    return subprocess.run(
        [*COMMAND, "--target", target, "health", "--quiet", *arguments],
        capture_output=True,
        check=False,
        env=environment_without_settings(),
        timeout=PATIENCE_SECONDS,
    ).returncode


def log_of(directory: Path) -> str:
    """What the sidecar has logged."""
    return (directory / "sidecar.log").read_text()


def until(holds: object, complaint: str) -> None:
    assert callable(holds)
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < give_up, complaint


def is_unavailable(client: Client, api_key: str) -> bool:
    try:
        client.authenticate(api_key)
    except Unavailable:
        return True
    return False


@pytest.mark.slow
def test_an_outage_is_invisible_for_a_lease_and_fails_closed_after_it(directory: Path) -> None:
    """Threats 1, 19 and 25: without a lease nothing is answered from memory, no check waits for a
    server that is away, and the sidecar recovers by itself."""
    server = Served(directory, SETTINGS)
    try:
        with (
            sidecar_of(server) as target,
            Client(target, token=server.root_key) as client,
            Client(server.target, token=server.root_key) as operator,
        ):
            made = operator.create_key(keyspace="demo", account_id="a", scopes=["vps:read"])
            assert client.authenticate(made.api_key)
            listed = [one.kind.value for one in operator.list_replicas().items]
            assert listed == ["sidecar"]
            gone = operator.create_key(keyspace="demo", account_id="a", scopes=["vps:read"])
            assert client.authenticate(gone.api_key)
            operator.revoke_key(gone.key.key_id)
            assert not client.authenticate(gone.api_key)

            began = time.monotonic()
            server.stop()
            # Two thirds of a lease are certain: renewals come every third. A server that
            # stops is one that can still be reached, so for a moment it is asked for another.
            while time.monotonic() < began + LEASE_SECONDS / 2:
                assert client.authenticate(made.api_key)
            stopped = time.monotonic()
            until(lambda: is_unavailable(client, made.api_key), "it goes on without a lease")
            assert time.monotonic() - stopped < LEASE_SECONDS + 10
            began = time.monotonic()
            for _ in range(5):
                assert is_unavailable(client, made.api_key)
            assert time.monotonic() - began < 5, "each check waits for what cannot come"
            until(lambda: health(target) == 1, "health does not tell of the lease")

            server = Served(directory, SETTINGS)
            until(lambda: not is_unavailable(client, made.api_key), "it does not heal")
            assert client.authenticate(made.api_key)
            assert not client.authenticate(gone.api_key)
            until(lambda: health(target) == 0, "health does not tell of the new lease")
            assert "lease_lost" in log_of(directory)
            assert "lease_regained" in log_of(directory)
    finally:
        server.stop()


@pytest.mark.slow
def test_stale_answers_are_given_where_they_were_asked_for_and_say_what_they_are(
    directory: Path,
) -> None:
    server = Served(directory, SETTINGS)
    try:
        with (
            sidecar_of(server, {"KEYFENCE_STALE_IF_ERROR": "1h"}) as target,
            Client(target, token=server.root_key) as client,
            Client(server.target, token=server.root_key) as operator,
        ):
            made = operator.create_key(
                keyspace="demo",
                account_id="a",
                scopes=["vps:read"],
                rate_limit=RateLimit(1000, timedelta(minutes=1)),
            )
            never_seen = operator.create_key(keyspace="demo", account_id="a")
            plain = operator.create_key(keyspace="demo", account_id="a", scopes=["vps:read"])
            for key in (made, plain):
                fresh = client.check_scope(key.api_key, "vps:read")
                assert fresh.allowed
                assert not fresh.stale
            assert health(target, "--service", "keyfence.lease") == 0
            os.kill(server.pid, signal.SIGKILL)
            server.stop()
            until(lambda: client.authenticate(plain.api_key).stale, "nothing is stale")
            for key in (made, plain):
                stale = client.check_scope(key.api_key, "vps:read")
                assert stale.allowed
                assert stale.stale
                assert client.check_scope(key.api_key, "vps:write").stale
            assert is_unavailable(client, never_seen.api_key)
            assert health(target) == 0
            assert health(target, "--service", "keyfence.lease") == 1
            assert "stale_answers" in log_of(directory)

            server = Served(directory, SETTINGS)
            until(lambda: not is_unavailable(client, never_seen.api_key), "it does not heal")
            assert not client.authenticate(plain.api_key).stale
    finally:
        server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_a_server_that_comes_back_waits_for_whom_the_one_before_had_granted_leases(
    directory: Path, end: signal.Signals
) -> None:
    """Threat 1, across a restart: the sidecar cannot reach the new server, so it cannot hear
    of the revocation, and the new server knows nothing of the sidecar."""
    server = Served(directory, SETTINGS)
    try:
        with (
            sidecar_of(server) as target,
            Client(target, token=server.root_key) as client,
        ):
            with Client(server.target, token=server.root_key) as operator:
                made = operator.create_key(keyspace="demo", account_id="a", scopes=["vps:read"])
            assert client.authenticate(made.api_key)
            os.kill(server.pid, end)
            server.stop()
            elsewhere = f"unix:{directory / 'elsewhere.sock'}"
            server = Served(directory, {**SETTINGS, "KEYFENCE_LISTEN": elsewhere})
            with Client(elsewhere, token=server.root_key, timeout_seconds=60) as operator:
                assert client.authenticate(made.api_key), "too slow to show anything"
                operator.revoke_key(made.key.key_id)
                assert is_unavailable(client, made.api_key), "accepted after a fenced OK"
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEYFENCE_DATABASE_URL", "postgresql://localhost/x"),
        ("KEYFENCE_BOOTSTRAP_KEYSPACES", "demo.yaml"),
        ("KEYFENCE_PEPPER", "1:AAAA"),
        ("KEYFENCE_ROOT_KEY", "kfop_x"),
        ("KEYFENCE_WORKERS", "2"),
    ],
)
def test_what_makes_no_sense_for_a_sidecar_is_refused_by_name(
    directory: Path, name: str, value: str
) -> None:
    """A setting without an effect would mislead the operator who sets it."""
    ended = refusal(directory, "sidecar", KEYFENCE_UPSTREAM="127.0.0.1:1", **{name: value})
    assert name in ended
    assert "a sidecar has no store" in ended


def test_a_sidecar_without_an_upstream_and_a_server_with_one_are_refused(directory: Path) -> None:
    assert "KEYFENCE_UPSTREAM or --upstream" in refusal(directory, "sidecar")
    serving = refusal(directory, "serve", KEYFENCE_UPSTREAM="127.0.0.1:1")
    assert "KEYFENCE_UPSTREAM is for `keyfence sidecar`" in serving


def refusal(directory: Path, command: str, **settings: str) -> str:
    ended = subprocess.run(
        [*COMMAND, command],
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
        timeout=PATIENCE_SECONDS,
        env=environment_without_settings({"KEYFENCE_LISTEN": "127.0.0.1:0", **settings}),
    )
    assert ended.returncode == 2, ended
    return ended.stderr


def test_a_sidecar_that_is_not_let_in_does_not_serve_and_says_what_to_grant(
    directory: Path,
) -> None:
    server = Served(directory, SETTINGS)
    sidecar: Served | None = None
    try:
        with Client(server.target, token=server.root_key) as operator:
            made = operator.create_key(
                keyspace="system", account_id="sidecar", preset="checker", bound_keyspaces=["demo"]
            )
        (directory / "beside").mkdir()
        sidecar = Served(
            directory / "beside",
            {"KEYFENCE_UPSTREAM": server.target, "KEYFENCE_UPSTREAM_TOKEN": made.api_key},
            subcommand="sidecar",
        )
        output = sidecar.wait_for("not_serving")
        (refused,) = [line for line in output.splitlines() if "upstream_out_of_step" in line][:1]
        assert "replication:sync" in refused
        assert "--preset sidecar" in refused
        assert health(sidecar.target) != 0
        assert " serving " not in sidecar.output.replace('"', " ")
    finally:
        if sidecar is not None:
            sidecar.stop()
        server.stop()


def test_a_sidecar_that_reaches_no_server_says_what_may_be_missing(directory: Path) -> None:
    sidecar = Served(
        directory,
        {"KEYFENCE_UPSTREAM": f"unix:{directory}/nothing", "KEYFENCE_UPSTREAM_TOKEN": "kfop_x"},
        subcommand="sidecar",
    )
    try:
        output = sidecar.wait_for("not_serving")
        assert "no server accepts connections there" in output
        assert health(sidecar.target) != 0
    finally:
        sidecar.stop()
