"""A Keyfence for an example, in a temporary directory that is removed at the end."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keyfence import Client, KeyfenceError

START_SECONDS = 60


@dataclass(frozen=True)
class Embedded:
    """A server that runs.

    Attributes:
        directory: the temporary directory.
        operator: a client with the server's first credential.
    """

    directory: Path
    target: str
    operator: Client


@contextlib.contextmanager
def running_keyfence(keyspaces: Path) -> Iterator[Embedded]:
    """A server with the keyspaces that a file declares."""
    with tempfile.TemporaryDirectory(prefix="keyfence-demo-") as name:
        directory = Path(name)
        target, data_dir = f"unix:{directory / 'keyfence.sock'}", directory / "data"
        settings = {
            "KEYFENCE_LISTEN": target,
            "KEYFENCE_DATA_DIR": str(data_dir),
            "KEYFENCE_BOOTSTRAP_KEYSPACES": str(keyspaces),
        }
        with (directory / "log").open("wb") as log:
            server = subprocess.Popen(
                [sys.executable, "-m", "keyfence_server", "serve"],
                env={**os.environ, **settings},
                stdout=log,
                stderr=log,
            )
        try:
            with _operator_of(server, target, data_dir) as operator:
                yield Embedded(directory, target, operator)
        finally:
            server.terminate()
            server.wait()


def _operator_of(server: subprocess.Popen[bytes], target: str, data_dir: Path) -> Client:
    """A client with the server's first credential, once it answers."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            client = Client(target, token=(data_dir / "root.key").read_text().strip())
            client.who_am_i(timeout_seconds=1)
        except (OSError, KeyfenceError):
            time.sleep(0.1)
        else:
            return client
    sys.exit("Keyfence did not start")
