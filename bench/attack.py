"""What an attack costs a good client: its checks beside its own when somebody else is attacked.

    python -m bench.attack NAME PORT [PER_SECOND]

attacks the port until it is ended, for a minute at the most: one connection after another,
with no credential.

The attacker shares the machine's processors with the server, which an attacker would not. So
there is a third: the same attack on a socket that reads and forgets.
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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from socket import AF_INET, SOCK_STREAM, socket
from typing import Final

import uvloop

from bench.processes import ROOT, ServerProcess, environment, running, until_answering
from keyfence import AsyncClient, KeyfenceError
from support.attacks import ATTACKS, Attack, attacked, paced_reset

_LONGEST_SECONDS: Final = 60.0
_HEAD_START_SECONDS: Final = 0.5
_PACES: Final = (1_000, 5_000, 20_000)


def measure(*, rounds: int, checks: int) -> None:
    """Prints, for each attack, the p99 of checks in turn without it, beside it and under it."""
    print(
        f"\nA good client's checks, one after another, while somebody attacks; medians of {rounds} "
        f"rounds of {checks}, in turn\n"
        "alone: nobody attacks; elsewhere: the same attack, on a socket that reads and forgets"
    )
    print(
        f"{'':24}{'p99, ms: alone':>16}{'elsewhere':>11}{'attacked':>10}"
        f"{'attacked/elsewhere':>20}{'server, cores':>15}{'not answered':>14}"
    )
    with _sink() as sink:
        for attack in ATTACKS:
            _row(_Attacker(attack.__name__), sink, rounds, checks)
        for pace in _PACES:
            _row(_Attacker(paced_reset.__name__, pace), sink, rounds, checks)


@dataclass(frozen=True, slots=True)
class _Attacker:
    """An attack in a process of its own.

    Attributes:
        per_second: how often, where the attack has a pace.
    """

    name: str
    per_second: int | None = None

    @property
    def title(self) -> str:
        """The attack in words."""
        words = self.name.replace("_", " ")
        return words if self.per_second is None else f"{words}, {self.per_second:,}/s"

    @contextmanager
    def attacking(self, port: int) -> Iterator[None]:
        """While it goes on."""
        pace = [] if self.per_second is None else [str(self.per_second)]
        command = [sys.executable, "-m", "bench.attack", self.name, str(port), *pace]
        with _killed_afterwards(subprocess.Popen(command, cwd=ROOT)):
            yield


def _row(attacker: _Attacker, sink: int, rounds: int, checks: int) -> None:
    with _server() as (server, port):
        uvloop.run(_beside(attacker, server, port, sink, rounds, checks))


async def _beside(
    attacker: _Attacker, server: ServerProcess, port: int, sink: int, rounds: int, checks: int
) -> None:
    alone: list[float] = []
    elsewhere: list[float] = []
    under_it: list[float] = []
    cores: list[float] = []
    unanswered = 0
    async with AsyncClient(server.target, token=server.token) as client:
        made = await client.create_key(keyspace="demo", account_id="bench", scopes=["vps:read"])
        for _ in range(rounds):
            alone.append((await _p99_ms(client, made.api_key, checks))[0])
            for where, p99s in ((sink, elsewhere), (port, under_it)):
                with attacker.attacking(where):
                    await asyncio.sleep(_HEAD_START_SECONDS)
                    began, used = time.perf_counter(), server.cpu_seconds()
                    p99, failed = await _p99_ms(client, made.api_key, checks)
                    used = (server.cpu_seconds() - used) / (time.perf_counter() - began)
                p99s.append(p99)
                unanswered += failed
            cores.append(used)
    ratio = statistics.median(b / a for a, b in zip(elsewhere, under_it, strict=True))
    print(
        f"{attacker.title:24}{statistics.median(alone):16.2f}{statistics.median(elsewhere):11.2f}"
        f"{statistics.median(under_it):10.2f}{ratio:20.2f}{statistics.median(cores):15.2f}"
        f"{unanswered:14}",
        flush=True,
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
def _sink() -> Iterator[int]:
    """The port of a process that says its settings, and forgets whatever it is sent."""
    command = [sys.executable, "-m", "bench.sink"]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    with _killed_afterwards(child):
        assert child.stdout is not None
        yield int(child.stdout.readline())


@contextmanager
def _killed_afterwards(child: subprocess.Popen[bytes]) -> Iterator[None]:
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


async def _attack(name: str, port: int, per_second: int) -> None:
    attack: Attack
    if per_second == 0:
        attack = next(one for one in ATTACKS if one.__name__ == name)
    else:
        attack = partial(paced_reset, per_second=per_second)
    until = time.monotonic() + _LONGEST_SECONDS
    while time.monotonic() < until:
        with contextlib.suppress(OSError, TimeoutError):
            async with attacked(port, attack):
                pass


if __name__ == "__main__":
    asyncio.run(_attack(sys.argv[1], int(sys.argv[2]), *map(int, sys.argv[3:4] or (0,))))
