"""What a check costs in each language: a call, a batched call, an answer from memory, a key."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

import keyfence as sdk
from bench.processes import ROOT, ServerProcess, environment, keyfence
from conformance.programs import LANGUAGES

_PATIENCE_SECONDS: Final = 30.0
_AT_ONCE: Final = 32
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
        # What some libraries say at their start would spoil the table.
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
    names: Collection[str] | None, *, rounds: int, calls: int, keys: int, optimized: bool
) -> None:
    """Prints a table, with the medians of the rounds.

    Args:
        names: the languages. None: all of them.
        calls: checks of each kind in a round; answers from memory are a hundred times as many.
        keys: cached keys, by which the memory of one is told.
        optimized: whether the programs are compiled for speed.
    """
    with tempfile.TemporaryDirectory() as directory, keyfence() as server:
        with sdk.Client(server.target, token=server.token) as operator:
            api_keys = [
                operator.create_key(keyspace="demo", account_id="bench", scopes=_SCOPES).api_key
                for _ in range(keys + 1)
            ]
        print(f"\n{'µs a check; medians of ' + str(rounds) + ' rounds':40}", end="")
        print(f"{'client CPU':>12}{'server CPU':>12}{'p50':>10}{'p99':>10}")
        for language, command in _commands(Path(directory), names, optimized=optimized):
            shown: dict[str, Figures] = {}
            for title, mode, at_once, count in (
                ("a call", "plain", 1, calls),
                (f"calls, {_AT_ONCE} at once", "plain", _AT_ONCE, calls),
                (f"batched, {_AT_ONCE} at once", "batched", _AT_ONCE, calls),
                ("from memory", "cached", 1, _HITS_FOR_EACH_CALL * calls),
            ):
                with _opened(command, server, mode) as client:
                    took = [
                        client.measure(api_keys[0], count=count, at_once=at_once)
                        for _ in range(rounds + 1)
                    ][1:]  # the first round warms up
                shown[mode] = _medians(took)
                _print(f"{language}: {title}", shown[mode])
            with _opened(command, server, "cached") as client:
                memory = _bytes_a_key(client, api_keys)
                print(f"{language + ': bytes a cached key':40}{memory:12,.0f}")
            hit, goal = shown["cached"].client_us, _HIT_GOALS_US[language]
            print(f"{language}: a check from memory takes {hit:.2f} µs of processor (goal: {goal})")
            ratio = shown["batched"].server_us / shown["plain"].server_us
            print(
                f"{language}: a batched check costs the server {ratio:.2f} (goal: {_BATCHED_GOAL})"
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


def _medians(took: list[Figures]) -> Figures:
    def median(read: Callable[[Figures], float]) -> float:
        return statistics.median(read(one) for one in took)

    return Figures(
        median(lambda one: one.client_us),
        median(lambda one: one.server_us),
        median(lambda one: one.p50_us),
        median(lambda one: one.p99_us),
    )


def _print(title: str, shown: Figures) -> None:
    print(
        f"{title:40}{shown.client_us:12.2f}{shown.server_us:12.2f}"
        f"{shown.p50_us:10.2f}{shown.p99_us:10.2f}",
        flush=True,
    )
