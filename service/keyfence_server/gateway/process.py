"""Envoy as the gateway's process: checked beforehand, started, and ended with us."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final

from keyfence_server.gateway.binary import envoy_binary
from keyfence_server.gateway.configuration import LISTENER, gateway_config
from keyfence_server.gateway.settings import GatewaySettings

_START_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.02


class CannotStartGateway(Exception):
    """Envoy refuses the configuration, or ends before it serves; the message says why."""


def run_gateway(settings: GatewaySettings) -> int:
    """Serves until a signal says to stop. Returns Envoy's exit code.

    Raises:
        NoEnvoy: the extra is not installed.
        CannotStartGateway: with what Envoy says.
    """
    envoy = envoy_binary()
    with tempfile.TemporaryDirectory(prefix="keyfence-gateway-") as name:
        directory = Path(name)
        admin = directory / "admin.sock"
        path = directory / "envoy.json"
        # The admin interface can stop Envoy, so it is a socket of this user alone.
        config = gateway_config(settings)
        config["admin"] = {"address": {"pipe": {"path": str(admin), "mode": 0o600}}}
        path.write_text(json.dumps(config))
        _validate(envoy, path)
        return _serve(envoy, path, admin, settings)


def _validate(envoy: Path, config: Path) -> None:
    checked = subprocess.run(
        [str(envoy), "--mode", "validate", "--config-path", str(config), "--log-level", "error"],
        capture_output=True,
        text=True,
        check=False,
    )
    if checked.returncode:
        raise CannotStartGateway(
            f"Envoy refuses the configuration: {(checked.stderr or checked.stdout).strip()[-2000:]}"
        )


def _serve(envoy: Path, config: Path, admin: Path, settings: GatewaySettings) -> int:
    process = subprocess.Popen(
        [
            str(envoy),
            *("--config-path", str(config)),
            *("--log-level", settings.log_level.value),
            "--disable-hot-restart",
        ],
        stdin=subprocess.DEVNULL,
    )

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if process.poll() is None:
            process.send_signal(number)

    previous = {one: signal.signal(one, pass_on) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        address = _wait_until_serving(process, admin)
        scheme = "http" if settings.tls_cert_file is None else "https"
        sys.stdout.write(f"serving on {scheme}://{address}\n")
        sys.stdout.flush()
        code = process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for number, handler in previous.items():
            signal.signal(number, handler)
    # Envoy ends with 0 when a signal says to; a code below is the signal that killed it.
    return code if code >= 0 else 128 - code


def _wait_until_serving(process: subprocess.Popen[bytes], admin: Path) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise CannotStartGateway(
                "Envoy ended before it served; what it wrote above says why, for example that "
                "the port is taken"
            )
        address = _listening(admin)
        if address is not None:
            return address
        time.sleep(_POLL_SECONDS)
    raise CannotStartGateway(f"Envoy did not serve within {_START_SECONDS:.0f} seconds")


def _listening(admin: Path) -> str | None:
    """Where Envoy listens, ports that the kernel chose included; None if it does not yet."""
    try:
        if _ask(admin, "/ready") != "LIVE":
            return None
        listeners: Any = json.loads(_ask(admin, "/listeners?format=json"))
    except (OSError, ValueError, http.client.HTTPException):
        return None
    for one in listeners.get("listener_statuses", ()):
        if one["name"] == LISTENER:
            found = one["local_address"]["socket_address"]
            host = found["address"]
            return (
                f"[{host}]:{found['port_value']}"
                if ":" in host
                else f"{host}:{found['port_value']}"
            )
    return None


def _ask(admin: Path, path: str) -> str:
    connection = _AdminConnection(admin)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode().strip()
    finally:
        connection.close()


class _AdminConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("admin", timeout=5)
        self._path = os.fspath(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
