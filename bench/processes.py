"""Server processes to measure, and what they have used of the processor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import psutil

ROOT: Final = Path(__file__).resolve().parent.parent
_START_SECONDS: Final = 90.0
_STOP_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A server in a process of its own.

    Attributes:
        target: where it listens.
        token: what its callers must show; empty for nothing.
    """

    name: str
    target: str
    token: str
    process: psutil.Process

    def cpu_seconds(self) -> float:
        """What the process has used of the processor so far, in seconds."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def keyfence(*, listen: str | None = None) -> Iterator[ServerProcess]:
    """The real server, by its real command, on an embedded store with the demo's keyspace.

    Args:
        listen: an address. None: a Unix socket.
    """
    with tempfile.TemporaryDirectory(prefix="keyfence-bench-") as directory:
        target = listen or f"unix:{Path(directory) / 'keyfence.sock'}"
        settings = {
            **environment(),
            "KEYFENCE_LISTEN": target,
            "KEYFENCE_DATA_DIR": str(Path(directory) / "data"),
            "KEYFENCE_BOOTSTRAP_KEYSPACES": str(ROOT / "examples/keyspaces/demo.yaml"),
            "KEYFENCE_LOG_LEVEL": "warning",
        }
        command = [sys.executable, "-m", "keyfence_server", "serve"]
        with running(command, settings, lambda: _answers(target)) as process:
            token = (Path(directory) / "data" / "root.key").read_text().strip()
            yield ServerProcess("keyfence", target, token, process)


@contextmanager
def empty_echo(answer_bytes: int, *, listen: str | None = None) -> Iterator[ServerProcess]:
    """A `grpc.aio` server whose handler returns a constant of the given length.

    Args:
        listen: an address. None: a Unix socket.
    """
    with tempfile.TemporaryDirectory(prefix="keyfence-bench-") as directory:
        target = listen or f"unix:{Path(directory) / 'echo.sock'}"
        command = [sys.executable, "-m", "bench.echo", target, str(answer_bytes)]
        with running(command, environment(), lambda: _answers(target)) as process:
            yield ServerProcess("empty echo", target, "", process)


def environment() -> dict[str, str]:
    """The environment without anything that Keyfence would read."""
    return {name: value for name, value in os.environ.items() if not name.startswith("KEYFENCE_")}


@contextmanager
def running(
    command: list[str], variables: dict[str, str], is_ready: Callable[[], bool]
) -> Iterator[psutil.Process]:
    """A process, from when it is ready until the end of the block."""
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(
            command, cwd=ROOT, env=variables, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            wait_until_ready(child, is_ready)
            yield psutil.Process(child.pid)
        except BaseException:
            output.seek(0)
            sys.stderr.write(output.read().decode(errors="replace")[-4000:])
            raise
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def wait_until_ready(child: subprocess.Popen[Any], is_ready: Callable[[], bool]) -> None:
    """Returns when the child is ready. Raises `RuntimeError` if it ends, or takes too long."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise RuntimeError(f"{child.args!r} ended with {child.returncode}")
        if is_ready():
            return
        time.sleep(0.02)
    raise RuntimeError(f"{child.args!r} did not answer within {_START_SECONDS} s")


def until_answering(target: str) -> Callable[[], bool]:
    """Whether a server can be reached there, to be asked until it can."""
    return lambda: _answers(target)


def _answers(target: str) -> bool:
    with grpc.insecure_channel(target) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=0.2)
        except grpc.FutureTimeoutError:
            return False
    return True
