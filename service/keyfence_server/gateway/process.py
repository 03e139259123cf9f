"""Envoy as a child process: its configuration is checked, and it ends with this process."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

from keyfence_server.gateway import grpc_listener, rest_listener
from keyfence_server.gateway.admin import Addresses, Admin
from keyfence_server.gateway.binary import CannotStartEnvoy, envoy_binary
from keyfence_server.gateway.configuration import gateway_config
from keyfence_server.gateway.settings import GatewaySettings

_START_SECONDS: Final = 20.0
_PR_SET_PDEATHSIG: Final = 1

# Envoy ignores SIGHUP, which a closed terminal sends.
_PASSED_ON: Final = {
    signal.SIGTERM: signal.SIGTERM,
    signal.SIGINT: signal.SIGINT,
    signal.SIGHUP: signal.SIGTERM,
}


def run_gateway(settings: GatewaySettings) -> int:
    """Serves until a signal says to stop. Returns Envoy's exit code. Raises `CannotStartEnvoy` with
    what Envoy says."""
    envoy = envoy_binary()
    temporary = tempfile.TemporaryDirectory(prefix="keyfence-gateway-")
    with temporary as name:
        directory = Path(name)
        admin = Admin(directory / "admin.sock")
        config = directory / "envoy.json"
        config.write_text(json.dumps({**gateway_config(settings), "admin": admin.config()}))
        _validate(envoy, config)
        with _running(envoy, config, settings) as process:
            addresses = admin.wait_until_listening(process, _START_SECONDS)
            # Envoy has read its configuration, and its administration is no longer needed.
            # So no file remains, even if this process is killed.
            temporary.cleanup()
            _announce(addresses, has_tls=settings.tls_cert_file is not None)
            code = process.wait()
    # Envoy ends with 0 when a signal says to; a code below is the signal that killed it.
    return code if code >= 0 else 128 - code


def _validate(envoy: Path, config: Path) -> None:
    checked = subprocess.run(
        [str(envoy), "--mode", "validate", "--config-path", str(config), "--log-level", "error"],
        capture_output=True,
        text=True,
        check=False,
    )
    if checked.returncode:
        raise CannotStartEnvoy(
            f"Envoy refuses the configuration: {(checked.stderr or checked.stdout).strip()[-2000:]}"
        )


@contextmanager
def _running(
    envoy: Path, config: Path, settings: GatewaySettings
) -> Iterator[subprocess.Popen[bytes]]:
    """Envoy, until the end of the block at the latest. It gets the signals of this process."""
    process = subprocess.Popen(
        [
            str(envoy),
            *("--config-path", str(config)),
            *("--log-level", settings.log_level),
            "--disable-hot-restart",
        ],
        stdin=subprocess.DEVNULL,
        # Safe without other threads: none of them can hold a lock that the child needs.
        preexec_fn=_ending_with_us(),  # noqa: PLW1509
    )

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if process.poll() is None:
            process.send_signal(_PASSED_ON[signal.Signals(number)])

    # An ignored signal stays ignored: `nohup` starts programs like that.
    previous = {
        one: signal.signal(one, pass_on)
        for one in _PASSED_ON
        if signal.getsignal(one) is not signal.SIG_IGN
    }
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _ending_with_us() -> Callable[[], None] | None:
    """Makes the kernel kill the child when this process is killed and cannot do it. Linux only."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # the parent was killed before the call
            os._exit(1)

    return before_exec


def _announce(addresses: Addresses, *, has_tls: bool) -> None:
    scheme = "https" if has_tls else "http"
    sys.stdout.write(f"serving on {scheme}://{_shown(*addresses[rest_listener.LISTENER])}\n")
    if (found := addresses.get(grpc_listener.LISTENER)) is not None:
        sys.stdout.write(f"serving gRPC on {_shown(*found)}\n")
    sys.stdout.flush()


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
