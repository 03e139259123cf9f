"""What mutations cost: processor time a call, together and alone, and a revocation in a crowd.

Each measure stands in rounds beside what it is compared with, in turn, in one run: the empty
echo for processor time, one call in flight for many. The processes of PostgreSQL count as the
server's.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final, Self

import grpc
import psutil

import keyfence as sdk
from bench.cluster import Cluster, cluster, holder_process
from bench.load import Call, run_round
from bench.processes import ServerProcess, empty_echo, keyfence
from bench.report import RATIO, Report, Table, p99, ratios
from keyfence.v1 import key_service_pb2 as messages

IN_FLIGHT: Final = 64
HOLDERS: Final = 100
_OPERATORS: Final = 8
_SERVICE: Final = "/keyfence.v1.KeyService"
_LEASE_SECONDS: Final = 2.0
_CPU: Final = "processor, ms a call"
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

    @property
    def p99_milliseconds(self) -> float:
        """The wait that 99 of 100 calls did not exceed."""
        return p99(self.waits) * 1000


class Site:
    """Servers with some operators, whose mutations are measured."""

    def __init__(
        self, servers: Sequence[ServerProcess], database: Sequence[psutil.Process]
    ) -> None:
        self._servers = servers
        self._database = database
        self._used_by: dict[int, float] = {}
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
            # A connection may have been replaced, and its process have ended.
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                self._used_by[process.pid] = times.user + times.system
        return used + sum(self._used_by.values())

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


def measure(report: Report, *, rounds: int, calls: int, holders: int = HOLDERS) -> None:
    """Measures on SQLite and on PostgreSQL."""
    title = f"Mutations: {rounds} rounds in turn, {calls} calls each"
    table = report.table("mutations", title)
    with ExitStack() as stack:
        server = stack.enter_context(keyfence())
        echo = stack.enter_context(empty_echo(400))
        embedded = Site([server], [])
        _processor_time(table, "SQLite", embedded, echo, rounds, calls, at_most=2.0)
        with cluster(_LEASE_SECONDS) as three:
            site = Site(three.servers, _database_processes(three))
            alone = Site(three.servers[:1], _database_processes(three))
            _processor_time(table, "PostgreSQL", alone, echo, rounds, calls, at_most=3.0)
            with ExitStack() as held:
                for server in three.servers:
                    count = holders // len(three.servers) + 1
                    held.enter_context(
                        holder_process(server.target, server.token, count, _LEASE_SECONDS)
                    )
                group = f"PostgreSQL, {len(three.servers)} servers, {holders} holders"
                _together(table, group, site, rounds, calls)
                _in_a_crowd(table, group, site, rounds, calls)


def _processor_time(
    table: Table,
    store: str,
    site: Site,
    echo: ServerProcess,
    rounds: int,
    calls: int,
    *,
    at_most: float,
) -> None:
    creating, revoking, empty = [], [], []
    for number in range(rounds + 1):
        made, ids = asyncio.run(site.create(calls, 1))
        revoked = asyncio.run(site.revoke(ids, 1))
        nothing = asyncio.run(
            run_round(echo, Call("/empty/Echo", (b"x" * 60,)), calls=calls * _ECHOES, in_flight=1)
        )
        if number:  # the first round warms up
            creating.append(made.cpu_milliseconds)
            revoking.append(revoked.cpu_milliseconds)
            empty.append(nothing.cpu_microseconds / 1000)
    for rpc, took in (("CreateKey", creating), ("RevokeKey", revoking)):
        table.add(f"{rpc}, 1 in flight", _CPU, took, group=store, at_most=at_most)
        table.add(f"{rpc} ÷ an empty call, processor", RATIO, ratios(took, empty), group=store)
    table.add("an empty call, 1 in flight", _CPU, empty, group=store)


def _together(table: Table, group: str, site: Site, rounds: int, calls: int) -> None:
    took: dict[str, tuple[list[Round], list[Round]]] = {
        "CreateKey": ([], []),
        "RevokeKey": ([], []),
    }
    for _ in range(rounds):
        one, some = asyncio.run(site.create(calls, 1))
        many, others = asyncio.run(site.create(calls * 4, IN_FLIGHT))
        revoked = asyncio.run(site.revoke(some, 1))
        many_revoked = asyncio.run(site.revoke(others, IN_FLIGHT))
        for rpc, rounds_of in (("CreateKey", (one, many)), ("RevokeKey", (revoked, many_revoked))):
            for results, result in zip(took[rpc], rounds_of, strict=True):
                results.append(result)
    for rpc, (alone, together) in took.items():
        table.compare(
            "calls a second",
            {
                f"{rpc}, {IN_FLIGHT} in flight": [result.per_second for result in together],
                f"{rpc}, 1 in flight": [result.per_second for result in alone],
            },
            ratio=f"{rpc}, calls a second with {IN_FLIGHT} in flight ÷ with 1",
            group=group,
            at_least=8,
        )
        for count, results in ((IN_FLIGHT, together), (1, alone)):
            cpu = [result.cpu_milliseconds for result in results]
            table.add(f"{rpc}, {count} in flight", _CPU, cpu, group=group)


def _in_a_crowd(table: Table, group: str, site: Site, rounds: int, calls: int) -> None:
    alone, crowded = [], []
    for _ in range(rounds):
        _, ids = asyncio.run(site.create(calls * 2, IN_FLIGHT))
        alone.append(asyncio.run(site.revoke(ids[:calls], 1)).p99_milliseconds)
        crowded.append(asyncio.run(_revoked_in_a_crowd(site, ids[calls:])).p99_milliseconds)
    table.compare(
        "p99, ms",
        {f"RevokeKey while {IN_FLIGHT} creates are in flight": crowded, "RevokeKey alone": alone},
        ratio=f"RevokeKey, p99 while {IN_FLIGHT} creates are in flight ÷ alone",
        group=group,
        at_most=3,
    )


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


def _database_processes(servers: Cluster) -> list[psutil.Process]:
    postmaster = psutil.Process(servers.database_pid)
    return [postmaster, *postmaster.children(recursive=True)]
