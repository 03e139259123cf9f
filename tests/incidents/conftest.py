"""Real servers and commands, for the incidents of docs/how-to."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from support.served import COMMAND, Served, environment_without_settings

_PATIENCE_SECONDS: Final = 60

METRICS: Final = {"KEYFENCE_METRICS_LISTEN": "127.0.0.1:0", "KEYFENCE_LOG_FORMAT": "json"}


# A small file system of its own needs root, as in a container, and Linux.
_MAY_MOUNT: Final = os.geteuid() == 0 and shutil.which("unshare") is not None
collect_ignore = [] if _MAY_MOUNT else ["test_full_disk.py"]


def pytest_report_header() -> str:
    """Says what this machine cannot show."""
    return "" if _MAY_MOUNT else "not collected: test_full_disk.py, which needs root to mount"


@pytest.fixture
def directory() -> Iterator[Path]:
    """An empty directory with a path that is short enough for a socket."""
    with TemporaryDirectory(prefix="kf") as name:
        yield Path(name)


class Host:
    """A machine with one data directory, its server, and its operator."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.settings: dict[str, str] = {}
        self._servers: list[Served] = []

    def start(self, more: Mapping[str, str] | None = None, **arguments: object) -> Served:
        """Starts the server. One that does not start fails the test, with what it has said."""
        self.settings = {**METRICS, **(more or {})}
        server = Served(self.directory, self.settings, **arguments)  # type: ignore[arg-type]
        self._servers.append(server)
        return server

    def run(
        self,
        *arguments: str,
        expect: int = 0,
        more: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Runs the command as an operator on this machine does."""
        root = self.directory / "data" / "root.key"
        operator = {
            "KEYFENCE_LISTEN": f"unix:{self.directory / 'keyfence.sock'}",
            "KEYFENCE_DATA_DIR": str(self.directory / "data"),
            "KEYFENCE_TARGET": f"unix:{self.directory / 'keyfence.sock'}",
            "KEYFENCE_TOKEN": root.read_text().strip() if root.exists() else "",
            **self.settings,
            **(more or {}),
        }
        done = subprocess.run(
            [*COMMAND, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.directory,
            timeout=120,
            env=environment_without_settings(operator),
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done

    def stop(self) -> None:
        """Stops every server that still runs."""
        for server in self._servers:
            server.stop()
        self._servers.clear()


@pytest.fixture
def host(directory: Path) -> Iterator[Host]:
    made = Host(directory)
    try:
        yield made
    finally:
        made.stop()


def eventually(is_so: Callable[[], bool], what: str) -> None:
    """Waits until something is so."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.1)
