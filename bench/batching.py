"""Checks that share messages, against checks in calls of their own, by the asynchronous client."""

from __future__ import annotations

import asyncio

import keyfence as sdk
from bench.checks import make_key
from bench.processes import ServerProcess, keyfence
from bench.report import Report

_IN_FLIGHT = 32


def measure(report: Report, *, rounds: int, checks: int) -> None:
    """Measures the server's processor time a check, with and without batching."""
    title = f"check_scope, {_IN_FLIGHT} at a time: {rounds} rounds in turn"
    table = report.table("batching", title)
    with keyfence() as server:
        api_key = make_key(server)
        single: list[float] = []
        shared: list[float] = []
        for number in range(rounds + 1):
            for batching, took in ((None, single), (sdk.Batching(), shared)):
                microseconds = asyncio.run(_round(server, api_key, batching, checks))
                if number:  # the first round warms up
                    took.append(microseconds)
    table.compare(
        "server CPU, µs a check",
        {"batching": shared, "single calls": single},
        ratio="batching ÷ single calls, server CPU",
        at_most=0.2,
    )


async def _round(
    server: ServerProcess, api_key: str, batching: sdk.Batching | None, checks: int
) -> float:
    async with sdk.AsyncClient(server.target, token=server.token, batching=batching) as client:

        async def one_after_the_other(count: int) -> None:
            for _ in range(count):
                answer = await client.check_scope(api_key, "vps:read", keyspace="demo")
                if not answer:
                    raise RuntimeError(f"the check was answered with {answer.reason}")

        await one_after_the_other(1)
        cpu = server.cpu_seconds()
        count = checks // _IN_FLIGHT
        await asyncio.gather(*(one_after_the_other(count) for _ in range(_IN_FLIGHT)))
        return (server.cpu_seconds() - cpu) / (count * _IN_FLIGHT) * 1e6
