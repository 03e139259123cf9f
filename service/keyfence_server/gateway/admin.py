"""Envoy's admin interface, on a Unix socket: it says whether Envoy serves, and where.

The interface can stop Envoy and shows its configuration. So its socket and the socket's
directory belong to this user only.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from keyfence_server.gateway.binary import CannotStartEnvoy

Addresses = Mapping[str, tuple[str, int]]

_POLL_SECONDS: Final = 0.02
_WHY: Final = "what it wrote above says why, for example that the port is taken"


@dataclass(frozen=True)
class Admin:
    """The admin interface at a socket."""

    _path: Path

    def config(self) -> dict[str, Any]:
        """The interface's part of Envoy's configuration."""
        return {"address": {"pipe": {"path": str(self._path), "mode": 0o600}}}

    def ask(self, path: str) -> str:
        """Envoy's answer to a GET. Raises `OSError` or `HTTPException` if there is none."""
        connection = _Connection(self._path)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def listening(self) -> Addresses | None:
        """The hosts and ports that Envoy listens on, by the listeners' names; None until it
        serves."""
        try:
            if self.ask("/ready").strip() != "LIVE":
                return None
            listeners: Any = json.loads(self.ask("/listeners?format=json"))
        except (OSError, ValueError, http.client.HTTPException):
            return None
        addresses = {
            one["name"]: one["local_address"]["socket_address"]
            for one in listeners.get("listener_statuses", ())
        }
        return {name: (found["address"], found["port_value"]) for name, found in addresses.items()}

    def wait_until_listening(self, process: subprocess.Popen[bytes], seconds: float) -> Addresses:
        """Returns once Envoy serves. Raises `CannotStartEnvoy`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise CannotStartEnvoy(f"Envoy ended before it served; {_WHY}")
            if addresses := self.listening():
                return addresses
            time.sleep(_POLL_SECONDS)
        raise CannotStartEnvoy(f"Envoy did not serve within {seconds:.0f} seconds; {_WHY}")


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("admin", timeout=5)
        self._path = os.fspath(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
