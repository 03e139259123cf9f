"""Envoy itself, out of its wheel, as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from keyfence_server.gateway.admin import Admin
from keyfence_server.gateway.binary import envoy_binary

_START_SECONDS: Final = 120
_STOP_SECONDS: Final = 60


class Envoy:
    """An Envoy with this configuration, its admin interface on a Unix socket.

    Args:
        config: the bootstrap configuration; listeners may have port 0.
        env: variables besides those of this process.
    """

    def __init__(self, config: Mapping[str, Any], env: Mapping[str, str] | None = None) -> None:
        # A socket's path must be short, and pytest's directories are not.
        self._directory = tempfile.TemporaryDirectory(prefix="keyfence-envoy-")
        directory = Path(self._directory.name)
        self._admin = Admin(directory / "admin.sock")
        self._output = directory / "output"
        path = directory / "envoy.json"
        path.write_text(json.dumps({**config, "admin": self._admin.config()}))
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    str(envoy_binary()),
                    *("--config-path", str(path)),
                    *("--concurrency", "1"),
                    *("--log-level", "warning"),
                    *("--drain-time-s", "1"),
                    *("--file-flush-interval-msec", "50"),
                    "--disable-hot-restart",
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
            )
        try:
            listening = self._admin.wait_until_listening(self._process, _START_SECONDS)
        except BaseException as error:
            error.add_note(self.output)
            self.stop()
            raise
        self.ports = {name: port for name, (_, port) in listening.items()}

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def output(self) -> str:
        """What Envoy has written so far, its access log among it."""
        return self._output.read_text()

    def wait_for_output(self, text: str) -> None:
        """Returns once Envoy has written this: its access log is flushed now and then."""
        deadline = time.monotonic() + _START_SECONDS
        while text not in self.output:
            assert time.monotonic() < deadline, f"{text} is not in Envoy's output"
            time.sleep(0.02)

    def admin(self, path: str) -> Any:
        """What the admin interface answers, as JSON."""
        return json.loads(self._admin.ask(path))

    def stop(self) -> None:
        """Ends the process."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._directory.cleanup()


class StartEnvoy(Protocol):
    """Starts an Envoy, which the caller ends."""

    def __call__(self, config: dict[str, Any], token: str = "") -> Envoy:
        """An Envoy with this configuration and this credential."""
        ...
