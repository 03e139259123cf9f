"""A hot check against an empty call: what Keyfence adds to the transport.

Both servers run at the same time, each in its own process, and are asked in turn. Their
requests are the same bytes, credential included, and their answers are as long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack

import keyfence as sdk
from bench.load import Call, Round, answers_to, run_in_turn
from bench.processes import ServerProcess, empty_echo, keyfence
from bench.report import Report, Table
from keyfence.v1 import authorization_service_pb2 as messages

_SERVICE = "/keyfence.v1.AuthorizationService"
IN_FLIGHT = 16


def measure(report: Report, *, rounds: int, calls: int) -> None:
    """Measures both servers for each kind of check."""
    title = f"Checks beside an empty call: {rounds} rounds in turn, {IN_FLIGHT} calls in flight"
    table = report.table("checks", title)
    with keyfence() as ours:
        api_key = make_key(ours)
        for name, call in _calls(api_key).items():
            [answer] = asyncio.run(answers_to(ours, call))
            with ExitStack() as stack:
                floor = stack.enter_context(empty_echo(len(answer)))
                same_metadata = ServerProcess(floor.name, floor.target, ours.token, floor.process)
                asked = [(ours, call), (same_metadata, call)]
                took = run_in_turn(asked, rounds=rounds, calls=calls, in_flight=IN_FLIGHT)
                _compare(table, name, *took)


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
        "CheckScope": Call(f"{_SERVICE}/CheckScope", (check.SerializeToString(),)),
        "Authenticate": Call(f"{_SERVICE}/Authenticate", (authenticate.SerializeToString(),)),
    }


def _compare(table: Table, name: str, ours: Sequence[Round], floor: Sequence[Round]) -> None:
    for quantity, field, at_most in (
        ("server CPU, µs a call", "cpu_microseconds", 1.15),
        ("calls a second", "calls_per_second", None),
        ("median wait, µs", "median_microseconds", None),
    ):
        table.compare(
            quantity,
            {
                "Keyfence": [getattr(one, field) for one in ours],
                "an empty call": [getattr(one, field) for one in floor],
            },
            ratio=f"Keyfence ÷ an empty call, {quantity.partition(',')[0]}",
            group=name,
            at_most=at_most,
        )
