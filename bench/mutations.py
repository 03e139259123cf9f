"""What mutations cost: processor time a call, together and alone, and a revocation in a crowd.

Each measure stands in rounds beside what it is compared with, in turn, in one run: the empty
echo for processor time, one call in flight for many. Medians are printed, with the lowest and
highest round, and the goals beside them. The processes of PostgreSQL count as the server's.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Self

import grpc
import psutil

import keyfence as sdk
from bench.cluster import Cluster, cluster, holder_process
from bench.load import Call, run_round
from bench.processes import ServerProcess, empty_echo, keyfence
from keyfence.v1 import key_service_pb2 as messages

IN_FLIGHT: Final = 64
HOLDERS: Final = 100
_OPERATORS: Final = 8
_SERVICE: Final = "/keyfence.v1.KeyService"
_LEASE_SECONDS: Final = 2.0
_ECHOES: Final = 50
"""Empty calls for each mutation: the processor's time is counted in hundredths of a second."""

Send = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Round:
    """What some calls took.

    Attributes:
        cpu_milliseconds: processor time a call, of all server processes.
        per_second: calls a second.
        waits: seconds from sending each call to having its answer.
    """

    cpu_milliseconds: float
    per_second: float
    waits: tuple[float, ...]

    def percentile(self, share: float) -> float:
        """The wait that this share of the calls did not exceed, in milliseconds."""
        ordered = sorted(self.waits)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


class Site:
    """Servers with some operators, whose mutations are measured."""

    def __init__(
        self, servers: Sequence[ServerProcess], database: Sequence[psutil.Process]
    ) -> None:
        self._servers = servers
        self._database = database
        with sdk.Client(servers[0].target, token=servers[0].token) as client:
            self._tokens = [
                client.create_key(
                    keyspace="system",
                    account_id="bench",
                    scopes=["keys:write"],
                    bound_keyspaces=["demo"],
                ).api_key
                for _ in range(_OPERATORS)
            ]

    def cpu_seconds(self) -> float:
        """The processor time of all processes so far."""
        used = sum(server.cpu_seconds() for server in self._servers)
        for process in self._database:
            times = process.cpu_times()
            used += times.user + times.system
        return used

    async def create(self, calls: int, in_flight: int) -> tuple[Round, list[str]]:
        """Makes keys, and says which."""
        request = messages.CreateKeyRequest(
            keyspace="demo", account_id="bench", scopes=["vps:read"]
        )
        took, answers = await self._drive(
            "CreateKey", itertools.repeat(request.SerializeToString(), calls), in_flight
        )
        ids = [messages.CreateKeyResponse.FromString(one).key.key_id for one in answers]
        return took, ids

    async def revoke(self, key_ids: Sequence[str], in_flight: int) -> Round:
        """Revokes these keys."""
        requests = (messages.RevokeKeyRequest(key_id=one).SerializeToString() for one in key_ids)
        return (await self._drive("RevokeKey", requests, in_flight))[0]

    async def _drive(
        self, rpc: str, requests: Iterator[bytes], in_flight: int
    ) -> tuple[Round, list[bytes]]:
        waits: list[float] = []
        answers: list[bytes] = []
        async with _Channels([server.target for server in self._servers]) as channels:
            await channels.ready()

            async def one_after_the_other(number: int) -> None:
                send: Send = channels.of(number).unary_unary(f"{_SERVICE}/{rpc}")
                token = self._tokens[number % len(self._tokens)]
                metadata = [("authorization", f"Bearer {token}")]
                for request in requests:
                    sent = time.perf_counter()
                    answers.append(await send(request, metadata=metadata, timeout=60.0))
                    waits.append(time.perf_counter() - sent)

            cpu, began = self.cpu_seconds(), time.perf_counter()
            await asyncio.gather(*map(one_after_the_other, range(in_flight)))
            seconds, used = time.perf_counter() - began, self.cpu_seconds() - cpu
        return Round(used / len(waits) * 1000, len(waits) / seconds, tuple(waits)), answers


class _Channels:
    """A channel to each of the servers."""

    def __init__(self, targets: Sequence[str]) -> None:
        self._all = [grpc.aio.insecure_channel(target) for target in targets]

    def of(self, number: int) -> grpc.aio.Channel:
        return self._all[number % len(self._all)]

    async def ready(self) -> None:
        await asyncio.gather(*(channel.channel_ready() for channel in self._all))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for channel in self._all:
            await channel.close()


def measure(*, rounds: int, calls: int, holders: int = HOLDERS) -> None:
    """Prints the measures, with their goals."""
    print(f"\nMutations: {rounds} rounds in turn, {calls} calls each")
    print(f"{'':54}{'median':>10}{'from':>10}{'to':>10}{'goal':>8}")
    with ExitStack() as stack:
        server = stack.enter_context(keyfence())
        echo = stack.enter_context(empty_echo(400))
        _processor_time("SQLite", Site([server], []), echo, rounds, calls, goal=2.0)
        with cluster(_LEASE_SECONDS) as three:
            site = Site(three.servers, _database_processes(three))
            alone = Site(three.servers[:1], _database_processes(three))
            _processor_time("PostgreSQL", alone, echo, rounds, calls, goal=3.0)
            with ExitStack() as held:
                for server in three.servers:
                    count = holders // len(three.servers) + 1
                    held.enter_context(
                        holder_process(server.target, server.token, count, _LEASE_SECONDS)
                    )
                _together(site, rounds, calls, holders)
                _in_a_crowd(site, rounds, calls)


def _processor_time(
    store: str, site: Site, echo: ServerProcess, rounds: int, calls: int, *, goal: float
) -> None:
    creating, revoking, empty = [], [], []
    for number in range(rounds + 1):
        made, ids = asyncio.run(site.create(calls, 1))
        revoked = asyncio.run(site.revoke(ids, 1))
        nothing = asyncio.run(
            run_round(echo, Call("/empty/Echo", b"x" * 60), calls=calls * _ECHOES, in_flight=1)
        )
        if number:  # the first round warms up
            creating.append(made.cpu_milliseconds)
            revoking.append(revoked.cpu_milliseconds)
            empty.append(nothing.cpu_microseconds / 1000)
    for rpc, took in (("CreateKey", creating), ("RevokeKey", revoking)):
        _line(f"{rpc} on {store}, ms of processor a call", took, f"{goal:.0f}")
        ratios = [a / b for a, b in zip(took, empty, strict=True)]
        _line(f"{rpc} on {store} ÷ an empty call", ratios, "")


def _together(site: Site, rounds: int, calls: int, holders: int) -> None:
    factors: dict[str, list[float]] = {"CreateKey": [], "RevokeKey": []}
    speeds: dict[str, list[float]] = {"CreateKey": [], "RevokeKey": []}
    cpu: list[float] = []
    for _ in range(rounds):
        one, some = asyncio.run(site.create(calls, 1))
        many, others = asyncio.run(site.create(calls * 4, IN_FLIGHT))
        factors["CreateKey"].append(many.per_second / one.per_second)
        speeds["CreateKey"].append(many.per_second)
        cpu.append(many.cpu_milliseconds)
        one = asyncio.run(site.revoke(some, 1))
        many = asyncio.run(site.revoke(others, IN_FLIGHT))
        factors["RevokeKey"].append(many.per_second / one.per_second)
        speeds["RevokeKey"].append(many.per_second)
    for rpc, ratios in factors.items():
        what = f"{rpc} a second, {IN_FLIGHT} in flight ÷ 1 ({holders} holders)"
        _line(what, ratios, "≥ 8")
        _line(f"{rpc} a second, {IN_FLIGHT} in flight", speeds[rpc], "")
    _line(f"CreateKey, ms of processor a call, {IN_FLIGHT} in flight", cpu, "")


def _in_a_crowd(site: Site, rounds: int, calls: int) -> None:
    ratios = []
    for _ in range(rounds):
        _, ids = asyncio.run(site.create(calls * 2, IN_FLIGHT))
        alone = asyncio.run(site.revoke(ids[:calls], 1))
        crowded = asyncio.run(_revoked_in_a_crowd(site, ids[calls:]))
        ratios.append(crowded.percentile(0.99) / alone.percentile(0.99))
    _line(f"RevokeKey, p99 while {IN_FLIGHT} creates are in flight ÷ alone", ratios, "≤ 3")


async def _revoked_in_a_crowd(site: Site, ids: Sequence[str]) -> Round:
    async def crowd() -> None:
        while True:
            await site.create(IN_FLIGHT * 4, IN_FLIGHT)

    creating = asyncio.create_task(crowd())
    try:
        await asyncio.sleep(1.0)
        return await site.revoke(ids, 1)
    finally:
        creating.cancel()
        await asyncio.gather(creating, return_exceptions=True)


def _line(what: str, values: Sequence[float], goal: str) -> None:
    middle = statistics.median(values)
    print(f"{what:54}{middle:10.2f}{min(values):10.2f}{max(values):10.2f}{goal:>8}")


def _database_processes(servers: Cluster) -> list[psutil.Process]:
    postmaster = psutil.Process(servers.database_pid)
    return [postmaster, *postmaster.children(recursive=True)]
