"""A hot check against an empty call: what Keyfence adds to the transport.

Both servers run at the same time, each in its own process, and are asked in turn. Their
requests are the same bytes, credential included, and their answers are as long.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from contextlib import ExitStack

import keyfence as sdk
from bench.load import Call, Round, answer_to, run_round
from bench.processes import ServerProcess, empty_echo, keyfence
from keyfence.v1 import authorization_service_pb2 as messages

_SERVICE = "/keyfence.v1.AuthorizationService"
IN_FLIGHT = 16


def measure(*, rounds: int, calls: int) -> None:
    """Prints, for each kind of check, the server's processor time a call, and the ratio."""
    with keyfence() as ours:
        api_key = make_key(ours)
        for name, call in _calls(api_key).items():
            answer = asyncio.run(answer_to(ours, call))
            with ExitStack() as stack:
                floor = stack.enter_context(empty_echo(len(answer)))
                same_metadata = ServerProcess(floor.name, floor.target, ours.token, floor.process)
                _report(name, *_in_turn(ours, same_metadata, call, rounds=rounds, calls=calls))


def _in_turn(
    ours: ServerProcess, floor: ServerProcess, call: Call, *, rounds: int, calls: int
) -> tuple[list[Round], list[Round]]:
    took: tuple[list[Round], list[Round]] = ([], [])
    for number in range(rounds + 1):
        for server, results in zip((ours, floor), took, strict=True):
            one = asyncio.run(run_round(server, call, calls=calls, in_flight=IN_FLIGHT))
            if number:  # the first round warms up
                results.append(one)
    return took


def make_key(server: ServerProcess) -> str:
    """A key of the demo's keyspace, for the checks that are measured."""
    with sdk.Client(server.target, token=server.token) as client:
        made = client.create_key(keyspace="demo", account_id="bench", scopes=["vps:write"])
        return made.api_key


def _calls(api_key: str) -> dict[str, Call]:
    check = messages.CheckScopeRequest(
        api_key=api_key, required_scopes=["vps:read"], keyspace="demo"
    )
    authenticate = messages.AuthenticateRequest(api_key=api_key, keyspace="demo")
    return {
        "CheckScope": Call(f"{_SERVICE}/CheckScope", check.SerializeToString()),
        "Authenticate": Call(f"{_SERVICE}/Authenticate", authenticate.SerializeToString()),
    }


def _report(name: str, ours: Sequence[Round], floor: Sequence[Round]) -> None:
    print(f"\n{name}: {len(ours)} rounds in turn, {IN_FLIGHT} calls in flight")
    print(f"{'':24}{'keyfence':>12}{'empty echo':>12}{'ratio':>8}{'from':>8}{'to':>8}")
    for title, field in (
        ("server CPU, µs a call", "cpu_microseconds"),
        ("calls a second", "calls_per_second"),
        ("median wait, µs", "median_microseconds"),
    ):
        a = [getattr(one, field) for one in ours]
        b = [getattr(one, field) for one in floor]
        ratios = [x / y for x, y in zip(a, b, strict=True)]
        print(
            f"{title:24}{statistics.median(a):12.1f}{statistics.median(b):12.1f}"
            f"{statistics.median(ratios):8.2f}{min(ratios):8.2f}{max(ratios):8.2f}"
        )
