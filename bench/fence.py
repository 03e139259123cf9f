"""What the fence costs, what it costs under a fault, and what it saves.

Everything that is compared is measured in one run and in turn, on the same machine. What
each figure means, and how it is got, is in docs/performance.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import statistics
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import grpc
import psutil
import uvloop

from bench.cluster import (
    SERVERS,
    Cluster,
    cluster,
    empty_servers,
    holder_process,
    leases_had,
    one_server,
    sidecar,
)
from bench.fan_out import GO
from bench.holders import holding, replying
from bench.processes import ServerProcess
from bench.report import RATIO, Report, Table, p99, ratios
from keyfence import AsyncClient, Cache, Client
from keyfence_server.coherence.terms import LeaseTerms
from testkit.links import Links
from testkit.ports import free_port
from testkit.proxy import Mode

HOLDERS: Final = 100
LEASE_SECONDS: Final = LeaseTerms().length
LEASES: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
_WARM_UP: Final = 20
_MOST_RENEWAL_ROUNDS: Final = 5


@dataclass(frozen=True, slots=True)
class Renewing:
    """Holders that renew their leases at one server, and for how long they are watched."""

    holders: int
    seconds: float


RENEWING: Final = Renewing(holders=1_000, seconds=8.0)


def measure(report: Report, *, rounds: int, renewing: Renewing) -> None:
    """Measures revocations, with and without a fault, and what caches and renewals cost."""
    with cluster(LEASE_SECONDS) as servers:
        with empty_servers() as empty:
            uvloop.run(_against_the_floor(report, servers, empty, rounds))
        _under_faults(report, servers)
    _cached_checks(report, rounds)
    _warm_sidecar(report)
    _renewals(report, renewing, min(_MOST_RENEWAL_ROUNDS, max(1, rounds // 10)))


def measure_leases(report: Report, *, leases: Sequence[float], renewing: Renewing) -> None:
    """Measures how the length of the lease trades renewals against revocations under a fault."""
    table = report.table("leases", f"Leases of {renewing.holders:,} holders, by their length L")
    for lease_seconds in leases:
        with one_server(lease_seconds) as server:
            each = _seconds_a_message(server, lease_seconds, renewing)
        share = _share(each, lease_seconds, renewing.holders)
        took = _revoke_under_fault(lease_seconds)
        label = f"L = {lease_seconds:g} s"
        table.add(label, "renewals, % of a core", [share * 100])
        table.add(label, "revocation while a holder is stopped, s", took)


# --- when all is well --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sample:
    """One revocation, and the floor right before it. In seconds."""

    revision: int
    call: float
    notify: float
    fan_out: float


async def _against_the_floor(
    report: Report, servers: Cluster, empty: Sequence[ServerProcess], rounds: int
) -> None:
    async with AsyncExitStack() as stack:
        share = _shares(HOLDERS)
        for server, floor, count in zip(servers.servers, empty, share, strict=True):
            await stack.enter_async_context(
                holding(server.target, server.token, count, LEASE_SECONDS)
            )
            await stack.enter_async_context(replying(floor.target, count))
        clients = [
            await stack.enter_async_context(AsyncClient(one.target, token=one.token))
            for one in servers.servers
        ]
        go = [await stack.enter_async_context(_go(one)) for one in empty]
        ping = await stack.enter_async_context(_notifying(servers.database_url))
        samples = []
        for number in range(rounds + _WARM_UP):
            made = await clients[0].create_key(keyspace="demo", account_id="bench")
            notify = await ping()
            fan_out = max(await asyncio.gather(*(one() for one in go)))
            began = time.perf_counter()
            done = await clients[number % SERVERS].revoke_key(made.key.key_id)
            call = time.perf_counter() - began
            samples.append(_Sample(done.revision, call, notify, fan_out))
    _add_fences(report, servers, samples[_WARM_UP:])


def _add_fences(report: Report, servers: Cluster, samples: Sequence[_Sample]) -> None:
    table = report.table(
        "fence",
        f"{len(samples)} revocations, {SERVERS} servers on PostgreSQL, {HOLDERS} holders; each "
        "after its floor",
    )
    fences, commits = servers.seconds("fence"), servers.seconds("commit")
    fence = [fences[one.revision] for one in samples]
    floor = [one.notify + one.fan_out for one in samples]
    for label, seconds in (
        ("a NOTIFY there and back", [one.notify for one in samples]),
        ("a message to each stream, and its reply", [one.fan_out for one in samples]),
        ("the floor: both together", floor),
        ("the fence: from the commit to the OK", fence),
        ("the commit alone", [commits[one.revision] for one in samples]),
        ("RevokeKey, at the client", [one.call for one in samples]),
    ):
        table.add(label, "time, ms", [one * 1e3 for one in seconds])
        table.add(label, "p99, ms", [p99(seconds) * 1e3])
    table.add("the fence ÷ the floor", RATIO, ratios(fence, floor), at_most=2)
    ratio = p99(fence) / statistics.median(fence)
    table.add("the fence, p99 ÷ median", RATIO, [ratio], at_most=5)


@asynccontextmanager
async def _go(
    server: ServerProcess,
) -> AsyncIterator[Callable[[], Coroutine[Any, Any, float]]]:
    async with grpc.aio.insecure_channel(server.target) as channel:
        send: Any = channel.unary_unary(GO)

        async def once() -> float:
            return float(await send(b""))

        yield once


@asynccontextmanager
async def _notifying(url: str) -> AsyncIterator[Callable[[], Coroutine[Any, Any, float]]]:
    """Two connections: one that calls, one that answers."""
    calling, answering = await asyncpg.connect(url), await asyncpg.connect(url)
    answers: set[asyncio.Task[Any]] = set()
    heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answer(*_: object) -> None:
        answers.add(asyncio.ensure_future(answering.execute("SELECT pg_notify('bench_pong', '')")))

    def hear(*_: object) -> None:
        heard.set_result(None)

    for connection in (calling, answering):
        # As the servers' own notifications do: nothing of this has to outlive a crash.
        await connection.execute("SET synchronous_commit = off")
    await answering.add_listener("bench_ping", answer)
    await calling.add_listener("bench_pong", hear)

    async def once() -> float:
        nonlocal heard
        heard = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        await calling.execute("SELECT pg_notify('bench_ping', '')")
        await heard
        took = time.perf_counter() - began
        await asyncio.gather(*answers)
        answers.clear()
        return took

    try:
        yield once
    finally:
        await calling.close()
        await answering.close()


# --- when one of them is at fault --------------------------------------------------------


def _under_faults(report: Report, servers: Cluster) -> None:
    wait = LeaseTerms(length=LEASE_SECONDS).wait
    title = f"Revocations while one holder is at fault; W is {wait:.3f} s"
    table = report.table("faults", title)
    token = servers.servers[0].token
    target = servers.servers[0].target
    with Client(target, token=token) as client:
        keys = [
            client.create_key(keyspace="demo", account_id="bench").key.key_id for _ in range(50)
        ]
        for title, number in (("stopped", signal.SIGSTOP), ("killed", signal.SIGKILL)):
            with holder_process(target, token, 1, LEASE_SECONDS) as holder:
                time.sleep(LEASE_SECONDS)
                holder.send_signal(number)
                _revoke_some(table, f"a client's cache, {title}", client, keys, servers)
        with (
            _cut_off(target) as (through, cut),
            holder_process(through, token, 1, LEASE_SECONDS),
        ):
            time.sleep(LEASE_SECONDS)
            cut()
            _revoke_some(table, "a client's cache, cut off", client, keys, servers)
        other = servers.servers[-1].process
        other.suspend()
        try:
            _revoke_some(table, "a server process, stopped", client, keys, servers)
            time.sleep(wait + LEASE_SECONDS)
            _revoke_some(
                table,
                "a stopped process, removed from the register",
                client,
                keys,
                servers,
            )
        finally:
            other.resume()
        time.sleep(wait)
        _revoke_some(table, "that process, when it was back", client, keys, servers)
        _kill(other)
        _revoke_some(table, "a server process, killed", client, keys, servers)
        time.sleep(wait + LEASE_SECONDS)
        _revoke_some(table, "a killed process, removed from the register", client, keys, servers)


def _kill(process: psutil.Process) -> None:
    process.kill()
    with contextlib.suppress(psutil.TimeoutExpired):
        process.wait(5)


def _revoke_some(
    table: Table, group: str, client: Client, keys: list[str], servers: Cluster
) -> None:
    revisions = [client.revoke_key(keys.pop()).revision for _ in range(5)]
    fences = servers.seconds("fence")
    first, *others = (fences[revision] * 1e3 for revision in revisions)
    table.add("the first revocation", "fence, ms", [first], group=group)
    table.add("the next ones", "fence, ms", others, group=group)


@contextmanager
def _cut_off(target: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """A way to a server through a proxy, and how to have nothing get through any more."""
    with tempfile.TemporaryDirectory(prefix="kfb-") as directory:
        through = f"{directory}/link"
        with Links({"link": (through, target.removeprefix("unix:"))}) as links:
            yield f"unix:{through}", lambda: links.set("link", Mode.BLACKHOLE)


# --- what it saves -----------------------------------------------------------------------


_CALLS: Final = 10
_HITS: Final = 200


@dataclass(slots=True)
class _CachedChecks:
    """What checks took, in seconds: the median of each round, and every hit."""

    calls: list[float] = field(default_factory=list)
    hits: list[float] = field(default_factory=list)
    all_hits: list[float] = field(default_factory=list)

    def add_round(self, calls: list[float], hits: list[float]) -> None:
        self.calls.append(statistics.median(calls))
        self.hits.append(statistics.median(hits))
        self.all_hits += hits

    def add_to(self, table: Table, client: str) -> None:
        table.compare(
            "median wait, µs",
            {
                "a call": [one * 1e6 for one in self.calls],
                "a hit": [one * 1e6 for one in self.hits],
            },
            ratio="a call ÷ a hit, median wait",
            group=client,
            at_least=200,
        )
        table.add("a hit", "p99, µs", [p99(self.all_hits) * 1e6], group=client, at_most=20)


def _cached_checks(report: Report, rounds: int) -> None:
    """A check from a client's memory against the same client's own call, in turn."""
    took = _CachedChecks()
    with (
        one_server(LEASE_SECONDS) as server,
        Client(server.target, token=server.token, cache=Cache()) as caching,
        Client(server.target, token=server.token) as calling,
    ):
        api_key = caching.create_key(
            keyspace="demo", account_id="bench", scopes=["vps:write"]
        ).api_key
        _until_cached(caching, api_key)

        def seconds(client: Client) -> float:
            began = time.perf_counter()
            client.check_scope(api_key, "vps:read")
            return time.perf_counter() - began

        for _ in range(rounds):
            took.add_round(
                [seconds(calling) for _ in range(_CALLS)],
                [seconds(caching) for _ in range(_HITS)],
            )
        asynchronous = uvloop.run(_cached_checks_async(server, api_key, rounds))
    title = f"Checks of a known key: {rounds} rounds of {_CALLS} calls and {_HITS} hits in turn"
    table = report.table("cache", title)
    took.add_to(table, "Client")
    asynchronous.add_to(table, "AsyncClient")


async def _cached_checks_async(server: ServerProcess, api_key: str, rounds: int) -> _CachedChecks:
    took = _CachedChecks()
    async with (
        AsyncClient(server.target, token=server.token, cache=Cache()) as caching,
        AsyncClient(server.target, token=server.token) as calling,
    ):
        while (status := caching.cache_status()) is None or not status.keys:
            await caching.check_scope(api_key, "vps:read")
            await asyncio.sleep(0.05)

        async def seconds(client: AsyncClient) -> float:
            began = time.perf_counter()
            await client.check_scope(api_key, "vps:read")
            return time.perf_counter() - began

        for _ in range(rounds):
            took.add_round(
                [await seconds(calling) for _ in range(_CALLS)],
                [await seconds(caching) for _ in range(_HITS)],
            )
    return took


def _until_cached(client: Client, api_key: str) -> None:
    while (status := client.cache_status()) is None or not status.keys:
        client.check_scope(api_key, "vps:read")
        time.sleep(0.05)


def _warm_sidecar(report: Report) -> None:
    """Checks at a sidecar that knows the keys, and what the server upstream heard of them."""
    keys, checks = 50, 1_000
    port = free_port()
    with (
        one_server(LEASE_SECONDS, port) as server,
        sidecar(server) as near,
        Client(server.target, token=server.token) as operator,
        Client(near.target, token=server.token) as client,
    ):
        api_keys = [
            operator.create_key(keyspace="demo", account_id="bench", scopes=["vps:read"]).api_key
            for _ in range(keys)
        ]
        for _ in range(3):
            # The sidecar may only just have its lease: the first round may not be kept.
            for api_key in api_keys:
                client.check_scope(api_key, "vps:read")
            time.sleep(0.5)
        before = _calls_served(port)
        for number in range(checks):
            assert client.check_scope(api_keys[number % keys], "vps:read").allowed
        calls = _calls_served(port) - before
    table = report.table("sidecar", f"{checks:,} checks on {keys} keys at a warm sidecar")
    table.add("calls upstream", "calls", [calls], at_most=0)


def _calls_served(port: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        text: str = response.read().decode()
    lines = (line for line in text.splitlines() if line.startswith("keyfence_rpc_seconds_count"))
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def _renewals(report: Report, renewing: Renewing, rounds: int) -> None:
    """Beside an empty server that is sent as many messages, in turn."""
    ours, empty = [], []
    for _ in range(rounds):
        with one_server(LEASE_SECONDS) as server:
            ours.append(_seconds_a_message(server, LEASE_SECONDS, renewing))
        with empty_servers(1) as (server,):
            empty.append(_seconds_a_message(server, LEASE_SECONDS, renewing, is_empty=True))
    table = report.table(
        "renewals",
        f"{renewing.holders:,} holders renew leases of {LEASE_SECONDS:g} s at one server, or send "
        f"as many messages to an empty one: {rounds} rounds in turn",
    )
    renewal, answer = "a renewal", "an empty answer"
    for label, seconds in ((renewal, ours), (answer, empty)):
        shares = [_share(one, LEASE_SECONDS, renewing.holders) * 100 for one in seconds]
        table.add(label, "% of a core", shares)
    table.compare(
        "processor, µs each",
        {renewal: [one * 1e6 for one in ours], answer: [one * 1e6 for one in empty]},
        ratio=f"{renewal} ÷ {answer}, processor",
    )


def _seconds_a_message(
    server: ServerProcess, lease_seconds: float, renewing: Renewing, *, is_empty: bool = False
) -> float:
    """What the server uses of the processor for one renewal.

    The renewals are counted, because holders on a busy machine do not always renew in time.
    """
    with holder_process(
        server.target, server.token, renewing.holders, lease_seconds, is_empty=is_empty
    ) as holders:
        time.sleep(lease_seconds)
        used, had = server.cpu_seconds(), leases_had(holders)
        time.sleep(renewing.seconds)
        return (server.cpu_seconds() - used) / (leases_had(holders) - had)


def _share(seconds_a_renewal: float, lease_seconds: float, holders: int) -> float:
    """Of a core, for three renewals in a lease of each holder."""
    return seconds_a_renewal * holders / LeaseTerms(length=lease_seconds).renewal_interval


# --- the length of the lease -------------------------------------------------------------


def _revoke_under_fault(lease_seconds: float) -> list[float]:
    """A few revocations, each right after a holder was stopped, in seconds."""
    took = []
    with one_server(lease_seconds) as server, Client(server.target, token=server.token) as client:
        keys = [client.create_key(keyspace="demo", account_id="bench").key for _ in range(3)]
        for key in keys:
            with holder_process(server.target, server.token, 1, lease_seconds) as holder:
                time.sleep(lease_seconds / 2)
                holder.send_signal(signal.SIGSTOP)
                began = time.perf_counter()
                client.revoke_key(key.key_id, timeout_seconds=60)
                took.append(time.perf_counter() - began)
            time.sleep(LeaseTerms(length=lease_seconds).wait)
    return took


def _shares(count: int) -> list[int]:
    return [count // SERVERS + (number < count % SERVERS) for number in range(SERVERS)]
