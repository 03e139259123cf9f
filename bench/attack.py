"""What an attack costs a good client: its checks beside its own when somebody else is attacked.

    python -m bench.attack NAME PORT SOURCE CONNECTIONS [PER_SECOND]

attacks the port from an address until it is ended, for a minute at the most, with no
credential: over so many connections at once, each for a second, and then over the next. With
more than one it has no patience: whatever is not read within 20 ms, or not let in, it gives up
for the next.

The attacker shares the machine's processors with the server, which an attacker would not. So
there is another column: the same attack on a socket that reads and forgets.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from socket import AF_INET, SOCK_STREAM, socket
from typing import Final

import uvloop

from bench.processes import ROOT, ServerProcess, environment, running, until_answering
from keyfence import AsyncClient, KeyfenceError
from testkit.attacks import ATTACKS, Attack, attacked, paced_reset

_LONGEST_SECONDS: Final = 60.0
_IMPATIENT_SECONDS: Final = 0.02
_PATIENT_SECONDS: Final = 5.0
_PACES: Final = (1_000, 5_000, 20_000)
_SHARED, _OWN = "127.0.0.1", "127.0.0.2"


def measure(*, rounds: int, checks: int, connections: Sequence[int] = (1, 10)) -> None:
    """Prints, for each attack, the p99 of checks in turn without it, beside it and under it.

    Args:
        connections: over how many at a time to attack, in turn.
    """
    print(
        f"\nA good client's checks, one after another, while somebody attacks; medians of {rounds} "
        f"rounds of {checks}, in turn\n"
        "alone: nobody attacks; elsewhere: the same attack, on a socket that reads and forgets; "
        "attacked: from another address, and from the good client's own\n"
    )
    print(
        f"{'p99, ms':24}{'alone':>8}{'elsewhere':>11}{'attacked':>10}{'/elsewhere':>12}"
        f"{'its address':>13}{'/elsewhere':>12}{'not answered':>14}"
    )
    with _sink() as sink:
        for count in connections:
            print(f"over {count} at a time:")
            for attack in ATTACKS:
                _row(_Attacker(attack.__name__, count), sink, rounds, checks)
            for pace in _PACES:
                _row(_Attacker(paced_reset.__name__, count, pace), sink, rounds, checks)


@dataclass(frozen=True, slots=True)
class _Attacker:
    """An attack in a process of its own.

    Attributes:
        connections: at a time.
        per_second: how often on each connection, where the attack has a pace.
    """

    name: str
    connections: int
    per_second: int | None = None

    @property
    def title(self) -> str:
        """The attack in words."""
        words = self.name.replace("_", " ")
        return words if self.per_second is None else f"{words}, {self.per_second:,}/s"

    @contextmanager
    def attacking(self, port: int, source: str) -> Iterator[None]:
        """While it goes on."""
        pace = [] if self.per_second is None else [str(self.per_second)]
        command = [sys.executable, "-m", "bench.attack", self.name]
        command += [str(port), source, str(self.connections), *pace]
        with _killed_afterwards(subprocess.Popen(command, cwd=ROOT)):
            yield


def _row(attacker: _Attacker, sink: int, rounds: int, checks: int) -> None:
    took: list[_Round] = []
    for _ in range(rounds):
        # One that has been attacked is prepared.
        with _server() as (server, port):
            took.append(uvloop.run(_beside(attacker, server, port, sink, checks)))

    def median(value: Callable[[_Round], float]) -> float:
        return statistics.median(map(value, took))

    print(
        f"{attacker.title:24}{median(lambda one: one.alone):8.2f}"
        f"{median(lambda one: one.elsewhere):11.2f}"
        f"{median(lambda one: one.attacked):10.2f}"
        f"{median(lambda one: one.attacked / one.elsewhere):12.2f}"
        f"{median(lambda one: one.shared):13.2f}"
        f"{median(lambda one: one.shared / one.elsewhere):12.2f}"
        f"{sum(one.unanswered for one in took):14}",
        flush=True,
    )


@dataclass(slots=True)
class _Round:
    """The p99 of checks, in milliseconds."""

    alone: float
    elsewhere: float
    attacked: float
    shared: float
    unanswered: int


async def _beside(
    attacker: _Attacker, server: ServerProcess, port: int, sink: int, checks: int
) -> _Round:
    async with AsyncClient(server.target, token=server.token) as client:
        made = await client.create_key(keyspace="demo", account_id="bench", scopes=["vps:read"])
        for _ in range(checks):
            await client.check_scope(made.api_key, "vps:read")
        p99s = [await _p99_ms(client, made.api_key, checks)]
        for where, source in ((sink, _OWN), (port, _OWN), (port, _SHARED)):
            with attacker.attacking(where, source):
                p99s.append(await _p99_ms(client, made.api_key, checks))
    unanswered = sum(failed for _, failed in p99s)
    alone, elsewhere, attacked, shared = (p99 for p99, _ in p99s)
    return _Round(alone, elsewhere, attacked, shared, unanswered)


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


async def _attack(name: str, port: int, source: str, connections: int, per_second: int) -> None:
    attack: Attack
    if per_second == 0:
        attack = next(one for one in ATTACKS if one.__name__ == name)
    else:
        attack = partial(paced_reset, per_second=per_second)
    until = time.monotonic() + _LONGEST_SECONDS
    patience = _PATIENT_SECONDS if connections == 1 else _IMPATIENT_SECONDS

    async def attack_again_and_again() -> None:
        while time.monotonic() < until:
            with contextlib.suppress(OSError, TimeoutError):
                async with attacked(port, attack, source=source, patience=patience):
                    pass

    await asyncio.gather(*(attack_again_and_again() for _ in range(connections)))


if __name__ == "__main__":
    name, port, source, connections, *pace = sys.argv[1:]
    asyncio.run(_attack(name, int(port), source, int(connections), *map(int, pace or (0,))))
