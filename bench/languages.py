"""What a check costs in each language: a call, a batched call, an answer from memory, a key."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

import keyfence as sdk
from bench.processes import ROOT, ServerProcess, environment, keyfence
from bench.report import RATIO, Report, ratios
from conformance.programs import LANGUAGES

_PATIENCE_SECONDS: Final = 30.0
_AT_ONCE: Final = 32
_CALLS: Final = f"{_AT_ONCE} calls at once"
_BATCHED: Final = f"{_AT_ONCE} batched checks at once"
_HIT: Final = "a check from memory"
_HITS_FOR_EACH_CALL: Final = 100
_MANY: Final = 10_000
_TIMED_EVERY: Final = 16
"""Of more than `_MANY` checks, one of so many is timed."""
_SCOPES: Final = ["vps:read"]
_HIT_GOALS_US: Final = {"python": 2.0, "go": 1.0, "typescript": 10.0, "java": 2.0, "rust": 1.0}
_BATCHED_GOAL: Final = 0.2
"""Of what the server's work for a call costs."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What checks of one kind took.

    Attributes:
        client_us, server_us: processor time for each check, of the process.
        p50_us, p99_us: from asking to the answer, within the program.
    """

    client_us: float
    server_us: float
    p50_us: float
    p99_us: float


class Client:
    """A client's program."""

    def __init__(self, command: list[str], server: ServerProcess, mode: str) -> None:
        self._server = server
        # The table must not be interrupted by what some libraries say at their start.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 -- as long as the process
        self._child = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._process = psutil.Process(self._child.pid)
        self.ask("open", target=server.target, token=server.token, mode=mode)

    def ask(self, do: str, /, **arguments: Any) -> dict[str, Any]:
        """Sends a command, and returns its answer."""
        if self._child.stdin is None or self._child.stdout is None:
            raise RuntimeError("the program has no pipes")
        self._child.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        if not line:
            code = self._child.wait()
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace")[-4000:]
            raise RuntimeError(f"{self._child.args!r} ended with {code}:\n{said}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def check(self, api_key: str) -> None:
        """Makes one check, which must be allowed."""
        answer = self.ask("check", api_key=api_key, scopes=_SCOPES, keyspace="demo")
        if not answer.get("allowed"):
            raise RuntimeError(f"the check was answered with {answer}")

    def measure(self, api_key: str, *, count: int, at_once: int) -> Figures:
        """Makes the same check so often. Of many checks some are timed: reading the clock, keeping
        the time and sorting the times takes as long as a fast check."""
        cpu, server_cpu = _cpu_seconds(self._process), self._server.cpu_seconds()
        told = self.ask(
            "measure",
            api_key=api_key,
            scopes=_SCOPES,
            keyspace="demo",
            count=count,
            at_once=at_once,
            timed_every=_TIMED_EVERY if count > _MANY else 1,
        )
        cpu, server_cpu = _cpu_seconds(self._process) - cpu, self._server.cpu_seconds() - server_cpu
        return Figures(cpu / count * 1e6, server_cpu / count * 1e6, told["p50_us"], told["p99_us"])

    def close(self) -> None:
        """Ends the program."""
        self._child.communicate(timeout=_PATIENCE_SECONDS)
        self._errors.close()


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def measure(
    report: Report,
    names: Collection[str] | None,
    *,
    rounds: int,
    calls: int,
    keys: int,
    optimized: bool,
) -> None:
    """Measures the client of each language.

    Args:
        names: the languages. None: all of them.
        calls: checks of each kind in a round; answers from memory are a hundred times as many.
        keys: cached keys, by which the memory of one is told.
        optimized: whether the programs are compiled for speed.
    """
    table = report.table("languages", f"A check in each language: {rounds} rounds of {calls} calls")
    with tempfile.TemporaryDirectory() as directory, keyfence() as server:
        with sdk.Client(server.target, token=server.token) as operator:
            api_keys = [
                operator.create_key(keyspace="demo", account_id="bench", scopes=_SCOPES).api_key
                for _ in range(keys + 1)
            ]
        for language, command in _commands(Path(directory), names, optimized=optimized):
            took: dict[str, list[Figures]] = {}
            for label, mode, at_once, count in (
                ("a call", "plain", 1, calls),
                (_CALLS, "plain", _AT_ONCE, calls),
                (_BATCHED, "batched", _AT_ONCE, calls),
                (_HIT, "cached", 1, _HITS_FOR_EACH_CALL * calls),
            ):
                with _opened(command, server, mode) as client:
                    took[label] = [
                        client.measure(api_keys[0], count=count, at_once=at_once)
                        for _ in range(rounds + 1)
                    ][1:]  # the first round warms up
                for quantity, field in (
                    ("client CPU, µs a check", "client_us"),
                    ("server CPU, µs a check", "server_us"),
                    ("p50, µs", "p50_us"),
                    ("p99, µs", "p99_us"),
                ):
                    is_goal = label == _HIT and field == "client_us"
                    table.add(
                        label,
                        quantity,
                        [getattr(one, field) for one in took[label]],
                        group=language,
                        at_most=_HIT_GOALS_US[language] if is_goal else None,
                    )
            with _opened(command, server, "cached") as client:
                memory = _bytes_a_key(client, api_keys)
            table.add("a cached key", "memory, bytes", [memory], group=language)
            batched, calls_at_once = (
                [one.server_us for one in took[it]] for it in (_BATCHED, _CALLS)
            )
            table.add(
                f"{_BATCHED} ÷ {_CALLS}, server CPU",
                RATIO,
                ratios(batched, calls_at_once),
                group=language,
                at_most=_BATCHED_GOAL,
            )


def _commands(
    directory: Path, names: Collection[str] | None, *, optimized: bool
) -> Iterator[tuple[str, list[str]]]:
    if names is None or "python" in names:
        yield "python", [sys.executable, "-m", "bench.python_program"]
    for name, language in LANGUAGES.items():
        if names is not None and name not in names:
            continue
        if tool := language.missing_tool():
            print(f"SKIPPED: {name}, since there is no {tool}")
            continue
        (directory / name).mkdir()
        command = language.build("scenario", directory / name)
        yield name, language.optimized(command) if optimized else command


@contextmanager
def _opened(command: list[str], server: ServerProcess, mode: str) -> Iterator[Client]:
    client = Client(command, server, mode)
    try:
        if mode == "cached":
            _wait_until_live(client)
        yield client
    finally:
        client.close()


def _wait_until_live(client: Client) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not client.ask("status").get("live"):
        if time.monotonic() > deadline:
            raise RuntimeError("the cache has no lease")
        # The cache begins with the first check.
        client.ask("check", api_key="demo_nothing", scopes=_SCOPES, keyspace="demo")
        time.sleep(0.02)


def _bytes_a_key(client: Client, api_keys: list[str]) -> float:
    first, *others = api_keys
    client.check(first)
    before = client.ask("memory")["bytes"]
    for api_key in others:
        client.check(api_key)
    return float(client.ask("memory")["bytes"] - before) / len(others)
