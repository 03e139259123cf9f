"""What an attack costs a good client, behind the gateway's listener and at the bare server.

    python -m bench.attack NAME PORT CONNECTIONS [PER_SECOND]

attacks the port until it is ended, for a minute at most, without a valid credential: over that
many connections at a time, each for a second and then over a new one. With more than one
connection it gives up after 20 ms what is not read or not let in.

The attacker shares the machine's processors with the server, which a real one would not. So each
attack is also made elsewhere: on a socket that reads and forgets. The ratio to that is what
counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import uvloop

from bench.processes import ROOT, environment, running, until_answering
from bench.report import Report, Table, p99
from keyfence import AsyncClient, KeyfenceError
from testkit.attacks import ATTACKS, Attack, attacked, paced_reset
from testkit.ports import free_port

_LONGEST_SECONDS: Final = 60.0
_IMPATIENT_SECONDS: Final = 0.02
_PATIENT_SECONDS: Final = 5.0
_PACES: Final = (1_000, 5_000, 20_000)
_SOURCE: Final = "127.0.0.2"
# The good client stays below what the listener allows one address by default.
_PAUSE_SECONDS: Final = 0.001
_ATTACKS: Final = tuple(one.__name__ for one in ATTACKS)


def measure(
    report: Report,
    *,
    rounds: int,
    checks: int,
    connections: Sequence[int] = (1, 10),
    names: Sequence[str] = _ATTACKS,
) -> None:
    """Measures the p99 of a good client's checks for each attack.

    Args:
        checks: made one after another in each round, without an attack and with it.
        connections: of the attacker at a time, one number after another.
        names: of the attacks.
    """
    table = report.table(
        "attack",
        "A good client's checks while another address attacks, or attacks a socket that reads and "
        f"forgets (elsewhere): {rounds} rounds of {checks} checks",
    )
    with _sink() as sink, _targets() as targets:
        for count in connections:
            attackers = [_Attacker(name, count) for name in names]
            if names == _ATTACKS:
                attackers += [_Attacker(paced_reset.__name__, count, pace) for pace in _PACES]
            for attacker in attackers:
                for target in targets:
                    _add(table, attacker, target, sink, rounds, checks)


@dataclass(frozen=True, slots=True)
class _Target:
    """A port of the server, and a credential for it."""

    name: str
    port: int
    token: str


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
        words = f"{self.name.replace('_', ' ')} over {self.connections} connections"
        return words if self.per_second is None else f"{words}, {self.per_second:,} a second"

    @contextmanager
    def attacking(self, port: int) -> Iterator[None]:
        """While the attack goes on."""
        pace = [] if self.per_second is None else [str(self.per_second)]
        command = [sys.executable, "-m", "bench.attack", self.name, str(port)]
        command += [str(self.connections), *pace]
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        with _killed_afterwards(child):
            assert child.stdout is not None
            child.stdout.readline()  # it has begun
            yield


@dataclass(slots=True)
class _Round:
    """The p99 of checks, in milliseconds, and how many failed under attack."""

    alone: float
    elsewhere: float
    attacked: float
    failed: int


def _add(
    table: Table, attacker: _Attacker, target: _Target, sink: int, rounds: int, checks: int
) -> None:
    took = [uvloop.run(_beside(attacker, target, sink, checks)) for _ in range(rounds)]
    group = f"{attacker.title}, {target.name}"
    table.add("alone", "p99, ms", [one.alone for one in took], group=group)
    table.compare(
        "p99, ms",
        {
            "attacked": [one.attacked for one in took],
            "attack elsewhere": [one.elsewhere for one in took],
        },
        ratio="p99, attacked ÷ attack elsewhere",
        group=group,
    )
    table.add("attacked", "failed checks", [float(one.failed) for one in took], group=group)


async def _beside(attacker: _Attacker, target: _Target, sink: int, checks: int) -> _Round:
    async with AsyncClient(f"127.0.0.1:{target.port}", token=target.token) as client:
        made = await client.create_key(keyspace="demo", account_id="bench", scopes=["vps:read"])
        await _p99_ms(client, made.api_key, checks)  # warms up
        alone, _ = await _p99_ms(client, made.api_key, checks)
        with attacker.attacking(sink):
            elsewhere, _ = await _p99_ms(client, made.api_key, checks)
        with attacker.attacking(target.port):
            under, failed = await _p99_ms(client, made.api_key, checks)
    return _Round(alone, elsewhere, under, failed)


async def _p99_ms(client: AsyncClient, api_key: str, checks: int) -> tuple[float, int]:
    took, failed = [], 0
    for _ in range(checks):
        began = time.perf_counter()
        try:
            await client.check_scope(api_key, "vps:read")
        except KeyfenceError:
            failed += 1
        took.append(time.perf_counter() - began)
        await asyncio.sleep(_PAUSE_SECONDS)
    return p99(took) * 1e3, failed


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
def _targets() -> Iterator[tuple[_Target, _Target]]:
    """One server: behind the listener with its default limits, and by its own port."""
    port, grpc_port = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="kfb-") as name:
        directory = Path(name)
        behind = f"unix:{directory / 'keyfence.sock'}"
        server = {
            **environment(),
            "KEYFENCE_LISTEN": f"127.0.0.1:{port},{behind}",
            "KEYFENCE_TRUSTED_PROXIES": "unix",
            "KEYFENCE_DATA_DIR": str(directory / "data"),
            "KEYFENCE_BOOTSTRAP_KEYSPACES": str(ROOT / "examples/keyspaces/demo.yaml"),
            "KEYFENCE_LOG_LEVEL": "error",
        }
        gateway = {
            **environment(),
            "KEYFENCE_GATEWAY_LISTEN": "127.0.0.1:0",
            "KEYFENCE_GATEWAY_GRPC_LISTEN": f"127.0.0.1:{grpc_port}",
            "KEYFENCE_GATEWAY_TARGET": behind,
        }
        command = [sys.executable, "-m", "keyfence_server"]
        with (
            running([*command, "serve"], server, until_answering(f"127.0.0.1:{port}")),
            running([*command, "gateway"], gateway, until_answering(f"127.0.0.1:{grpc_port}")),
        ):
            token = (directory / "data" / "root.key").read_text().strip()
            yield (
                _Target("through the listener", grpc_port, token),
                _Target("the bare server", port, token),
            )


async def _attack(name: str, port: int, connections: int, per_second: int) -> None:
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
                async with attacked(port, attack, source=_SOURCE, patience=patience):
                    pass

    print("attacking", flush=True)
    await asyncio.gather(*(attack_again_and_again() for _ in range(connections)))


if __name__ == "__main__":
    name, port, connections, *pace = sys.argv[1:]
    asyncio.run(_attack(name, int(port), int(connections), *map(int, pace or (0,))))
