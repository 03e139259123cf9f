"""Checks that share messages, against checks in calls of their own, by the asynchronous client."""

from __future__ import annotations

import asyncio
import statistics

import keyfence as sdk
from bench.checks import make_key
from bench.processes import ServerProcess, keyfence

_IN_FLIGHT = 32


def measure(*, rounds: int, checks: int) -> None:
    """Prints the server's processor time a check, with and without batching, and the ratio."""
    with keyfence() as server:
        api_key = make_key(server)
        single: list[float] = []
        shared: list[float] = []
        for number in range(rounds + 1):
            for batching, took in ((None, single), (sdk.Batching(), shared)):
                microseconds = asyncio.run(_round(server, api_key, batching, checks))
                if number:  # the first round warms up
                    took.append(microseconds)
    ratios = [one / other for one, other in zip(shared, single, strict=True)]
    print(f"\ncheck_scope, {_IN_FLIGHT} at a time, {rounds} rounds in turn")
    print(f"{'':24}{'single calls':>14}{'batching':>12}{'ratio':>8}{'from':>8}{'to':>8}")
    print(
        f"{'server CPU, µs a check':24}{statistics.median(single):14.1f}"
        f"{statistics.median(shared):12.1f}{statistics.median(ratios):8.3f}"
        f"{min(ratios):8.3f}{max(ratios):8.3f}"
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
