"""Keyfence beside other authorization services and empty servers, on equal questions.

Each server runs in a process of its own, all at the same time, and is asked in turn. The empty
servers show what the gRPC libraries of Python and Go cost: they get Keyfence's requests, and their
answers are as long as Keyfence's.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from bench.load import Call, Round, answers_to, run_in_turn
from bench.peer_programs import OPENFGA, SPICEDB, Program, go_version, programs
from bench.peer_servers import Candidate, keyfence_candidate, openfga, spicedb
from bench.processes import (
    ServerProcess,
    empty_echo,
    environment,
    running,
    until_answering,
)
from bench.report import RATIO, Report, Table, ratios
from conformance.programs import LANGUAGES
from testkit.ports import free_port

IN_FLIGHT: Final = (1, 16)
_SERVED: Final[
    Mapping[Program, Sequence[Callable[[int], AbstractContextManager[list[Candidate]]]]]
] = {
    OPENFGA: (partial(openfga, cached=False), partial(openfga, cached=True)),
    SPICEDB: (partial(spicedb, cached=False), partial(spicedb, cached=True)),
}
"""The servers of each program."""


def measure(report: Report, *, rounds: int, calls: int, subjects: int, build: bool) -> None:
    """Measures the services that are built, with 1 call and with 16 calls in flight.

    Args:
        calls: in each round, to each server.
        subjects: the calls ask about each in turn.
        build: whether to build the services that are not built; takes many minutes.
    """
    title = f"A check beside peers: {rounds} rounds in turn of {calls} calls, {subjects} subjects"
    ready = programs(build=build)
    if not ready:
        return
    report.versions |= {program.name: program.version for program in ready}
    report.versions["Go"] = go_version()
    with ExitStack() as stack:
        ours = stack.enter_context(keyfence_candidate(subjects))
        candidates = [ours, *stack.enter_context(_empty_servers(ours))]
        for program in ready:
            for served in _SERVED[program]:
                candidates += stack.enter_context(served(subjects))
        print()
        for candidate in candidates:
            print(f"{candidate.name}: {candidate.settings}")
            for call in (candidate.allowed, candidate.denied):
                call.verify(asyncio.run(answers_to(candidate.server, call)))
        table = report.table("peers", title)
        for in_flight in IN_FLIGHT:
            rounds_of_each = run_in_turn(
                [(candidate.server, candidate.allowed) for candidate in candidates],
                rounds=rounds,
                calls=calls,
                in_flight=in_flight,
            )
            names = (candidate.name for candidate in candidates)
            took = dict(zip(names, rounds_of_each, strict=True))
            _compare(table, took, group=f"{in_flight} in flight")


@contextmanager
def _empty_servers(ours: Candidate) -> Iterator[list[Candidate]]:
    answer, *_ = asyncio.run(answers_to(ours.server, ours.allowed))
    call = Call(ours.allowed.method, ours.allowed.requests)
    address = f"127.0.0.1:{free_port()}"
    with (
        tempfile.TemporaryDirectory(prefix="kfb-") as directory,
        empty_echo(len(answer), listen=f"127.0.0.1:{free_port()}") as python,
    ):
        program = LANGUAGES["go"].build("echo", Path(directory))
        command = [*program, address, call.method, str(len(answer))]
        with running(command, environment(), until_answering(address)) as go:
            yield [
                Candidate(
                    name,
                    "the same requests as Keyfence, and answers as long",
                    # With the same metadata, too.
                    ServerProcess(name, target, ours.server.token, process),
                    call,
                    call,
                )
                for name, target, process in (
                    ("empty server in Python", python.target, python.process),
                    ("empty server in Go", address, go),
                )
            ]


def _compare(table: Table, took: Mapping[str, Sequence[Round]], *, group: str) -> None:
    """Adds each server's figures, and Keyfence's divided by those of each other server."""
    for quantity, field in (
        ("server CPU, µs a call", "cpu_microseconds"),
        ("calls a second", "calls_per_second"),
    ):
        values = {name: [getattr(one, field) for one in its] for name, its in took.items()}
        for name, its in values.items():
            table.add(name, quantity, its, group=group)
        (ours, mine), *others = values.items()
        for name, its in others:
            label = f"{ours} ÷ {name}, {quantity.partition(',')[0]}"
            table.add(label, RATIO, ratios(mine, its), group=group)
