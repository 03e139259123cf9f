"""What an attack costs a good client: its checks beside its own when nobody attacks.

    python -m bench.attack NAME PORT

attacks the port until it is ended, for a minute at the most: one connection after another,
with no credential.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import AF_INET, SOCK_STREAM, socket
from typing import Final

import uvloop

from bench.processes import ROOT, ServerProcess, environment, running, until_answering
from keyfence import AsyncClient, KeyfenceError
from support.attacks import ATTACKS
from support.raw_http2 import ACK, SETTINGS, RawConnection, frame

_LONGEST_SECONDS: Final = 60.0
_HEAD_START_SECONDS: Final = 0.5


def measure(*, rounds: int, checks: int) -> None:
    """Prints, for each attack, the p99 of checks in turn with and without it."""
    print(
        f"\nA good client's checks, one after another, while somebody attacks; medians of {rounds} "
        f"rounds of {checks}, each beside one without"
    )
    print(f"{'':24}{'p99, ms':>10}{'attacked':>10}{'ratio':>8}{'not answered':>14}")
    for attack in ATTACKS:
        with _server() as (server, port):
            uvloop.run(_beside(attack.__name__, server, port, rounds, checks))


async def _beside(name: str, server: ServerProcess, port: int, rounds: int, checks: int) -> None:
    quiet, attacked, unanswered = [], [], 0
    async with AsyncClient(server.target, token=server.token) as client:
        made = await client.create_key(keyspace="demo", account_id="bench", scopes=["vps:read"])
        for _ in range(rounds):
            quiet.append((await _p99_ms(client, made.api_key, checks))[0])
            with _attacker(name, port):
                await asyncio.sleep(_HEAD_START_SECONDS)
                p99, failed = await _p99_ms(client, made.api_key, checks)
            attacked.append(p99)
            unanswered += failed
    ratio = statistics.median(b / a for a, b in zip(quiet, attacked, strict=True))
    print(
        f"{name.replace('_', ' '):24}{statistics.median(quiet):10.2f}"
        f"{statistics.median(attacked):10.2f}{ratio:8.2f}{unanswered:14}"
    )


async def _p99_ms(client: AsyncClient, api_key: str, checks: int) -> tuple[float, int]:
    took, failed = [], 0
    for _ in range(checks):
        began = time.perf_counter()
        try:
            await client.check_scope(api_key, "vps:read")
        except KeyfenceError:
            failed += 1
        took.append(time.perf_counter() - began)
    return sorted(took)[int(len(took) * 0.99)] * 1e3, failed


@contextmanager
def _attacker(name: str, port: int) -> Iterator[None]:
    child = subprocess.Popen([sys.executable, "-m", "bench.attack", name, str(port)], cwd=ROOT)
    try:
        yield
    finally:
        child.kill()
        child.wait()


@contextmanager
def _server() -> Iterator[tuple[ServerProcess, int]]:
    with socket(AF_INET, SOCK_STREAM) as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    target = f"127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="kfb-") as name:
        directory = Path(name)
        settings = {
            **environment(),
            "KEYFENCE_LISTEN": target,
            "KEYFENCE_DATA_DIR": str(directory / "data"),
            "KEYFENCE_BOOTSTRAP_KEYSPACES": str(ROOT / "examples/keyspaces/demo.yaml"),
            "KEYFENCE_LOG_LEVEL": "error",
        }
        command = [sys.executable, "-m", "keyfence_server", "serve"]
        with running(command, settings, until_answering(target)) as process:
            token = (directory / "data" / "root.key").read_text().strip()
            yield ServerProcess("server", target, token, process), port


async def _attack(name: str, port: int) -> None:
    attack = next(one for one in ATTACKS if one.__name__ == name)
    until = time.monotonic() + _LONGEST_SECONDS
    while time.monotonic() < until:
        # Being cut off is an answer, and so is not being read any more.
        with contextlib.suppress(OSError, TimeoutError):
            connection = await RawConnection.open(port)
            await connection.receive_until(SETTINGS)
            await connection.send(frame(SETTINGS, ACK, 0))
            async with asyncio.timeout(1):
                await attack(connection)
            connection.abort()


if __name__ == "__main__":
    asyncio.run(_attack(sys.argv[1], int(sys.argv[2])))
