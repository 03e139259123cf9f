"""`keyfence serve` as a process of its own, for tests that need nothing of its inside."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import grpc

_START_SECONDS: Final = 90
_STOP_SECONDS: Final = 60

COMMAND: Final = (sys.executable, "-m", "keyfence_server")
"""The command, wherever its script is."""


def environment_without_settings(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without anything that Keyfence would read, and then `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KEYFENCE_")}
    return {**kept, **(more or {})}


class Served:
    """A server on a Unix socket, from its first start to `stop`.

    Args:
        directory: an empty one of its own.
        more: settings besides the address and the data directory.
        target: one of the addresses, where `more` names several.
        command: what runs `keyfence`.
        subcommand: "sidecar" for one.
    """

    def __init__(
        self,
        directory: Path,
        more: Mapping[str, str] | None = None,
        *,
        target: str | None = None,
        command: Sequence[str] = COMMAND,
        subcommand: str = "serve",
    ) -> None:
        self.directory = directory
        self._settings = {
            "KEYFENCE_LISTEN": f"unix:{directory / 'keyfence.sock'}",
            "KEYFENCE_DATA_DIR": str(directory / "data"),
            **(more or {}),
        }
        self.target = target or self._settings["KEYFENCE_LISTEN"]
        self._said = b""
        self._has_said = threading.Condition()
        self._process = subprocess.Popen(
            [*command, subcommand],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment_without_settings(self._settings),
            cwd=directory,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._wait_until_reachable()

    @property
    def root_key(self) -> str:
        """The first credential."""
        return (self.directory / "data" / "root.key").read_text().strip()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def tcp_target(self) -> str:
        """Its TCP address, where the system has chosen the port. It comes after the first one."""
        found = re.findall(r"127\.0\.0\.1:[1-9][0-9]*", self.output)
        assert found, f"the server names no TCP address:\n{self.output}"
        return str(found[0])

    @property
    def metrics_port(self) -> int:
        """The port of the probes and metrics, where `more` asks for them."""
        lines = self.wait_for("serving_metrics").splitlines()
        line = next(line for line in lines if "serving_metrics" in line)
        found = re.search(r"port\W+([0-9]+)", line)
        assert found is not None
        return int(found[1])

    def get(self, path: str) -> tuple[int, str]:
        """Asks the port of the probes: the status and the text."""
        request = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=10)
        try:
            request.request("GET", path)
            answer = request.getresponse()
            return answer.status, answer.read().decode()
        finally:
            request.close()

    @property
    def output(self) -> str:
        """What the process has written to the terminal so far."""
        return self._said.decode()

    def wait_for(self, text: str) -> str:
        """Waits until the process has written this, and returns all that it has written."""
        with self._has_said:
            found = self._has_said.wait_for(lambda: text in self.output, _START_SECONDS)
        assert found, f"the server did not say {text!r}:\n{self.output}"
        return self.output

    def env(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of an operator of this server."""
        operator = {"KEYFENCE_TARGET": self.target, "KEYFENCE_TOKEN": self.root_key}
        return environment_without_settings({**operator, **(more or {})})

    def stop(self) -> int:
        """Tells the server to stop as an operator would, and returns its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._listener.join()
            assert self._process.stdout is not None
            self._process.stdout.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        # Whole writes, not lines: what is said at once is there at once.
        while chunk := os.read(self._process.stdout.fileno(), 65_536):
            with self._has_said:
                self._said += chunk
                self._has_said.notify_all()

    def _wait_until_reachable(self) -> None:
        # A busy machine starts it slowly, and the usual pauses between attempts grow long.
        patient = [("grpc.max_reconnect_backoff_ms", 200)]
        with grpc.insecure_channel(self.target, options=patient) as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=_START_SECONDS)
            except grpc.FutureTimeoutError:
                self.stop()
                raise AssertionError(f"the server did not start:\n{self.output}") from None
