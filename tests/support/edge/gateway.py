"""`keyfence gateway` as a process of its own, as people start it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from support.edge.http import Answer, Headers, bearer, send
from support.served import COMMAND, environment_without_settings

_START_SECONDS: Final = 90
_STOP_SECONDS: Final = 60


class Gateway:
    """A gateway in front of the server at a port.

    Args:
        directory: an empty one of its own.
        more: settings besides the addresses.
    """

    def __init__(
        self, directory: Path, keyfence_port: int, more: Mapping[str, str] | None = None
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._output = directory / "output"
        settings = {
            "KEYFENCE_GATEWAY_LISTEN": "127.0.0.1:0",
            "KEYFENCE_GATEWAY_TARGET": f"127.0.0.1:{keyfence_port}",
            **(more or {}),
        }
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [*COMMAND, "gateway"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment_without_settings(settings),
            )
        try:
            self.port = self._wait_until_serving()
        except BaseException:
            self.stop()
            raise

    @property
    def grpc_port(self) -> int:
        """Where it listens for gRPC."""
        found = re.search(r"serving gRPC on [^ ]*:(\d+)\n", self.output)
        assert found is not None, self.output
        return int(found[1])

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def output(self) -> str:
        """What the process has written so far."""
        return self._output.read_text()

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        """Calls the API with a JSON body and a bearer token."""
        sent: list[tuple[str, str]] = list(headers)
        if token is not None:
            sent.append(bearer(token))
        if body is None:
            return self.send(method, path, sent)
        sent.append(("content-type", "application/json"))
        return self.send(method, path, sent, json.dumps(body).encode())

    def send(self, method: str, path: str, headers: Headers = (), body: bytes = b"") -> Answer:
        """Sends a request as it is."""
        return send(self.port, method, path, headers, body)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Tells the process to stop, as an operator would if nothing else is said, and
        returns its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(how)
        try:
            return self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    def _wait_until_serving(self) -> int:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if found := re.search(r"serving on \w+://[^ ]*:(\d+)\n", self.output):
                return int(found[1])
            assert self._process.poll() is None, f"the gateway did not start:\n{self.output}"
            time.sleep(0.02)
        raise AssertionError(f"the gateway did not start in time:\n{self.output}")
