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
from dataclasses import dataclass
from pathlib import Path
from socket import AF_INET, SOCK_STREAM, socket
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
from bench.fence_plot import Point, draw
from bench.holders import holding, replying
from bench.processes import ServerProcess
from keyfence import AsyncClient, Cache, Client
from keyfence_server.coherence.terms import LeaseTerms
from testkit.links import Links
from testkit.proxy import Mode

HOLDERS: Final = 100
MANY_HOLDERS: Final = 1_000
LEASE_SECONDS: Final = LeaseTerms().length
LEASES: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
_WARM_UP: Final = 20
_MOST_RENEWAL_ROUNDS: Final = 5


def measure(*, rounds: int, plot: Path | None = None) -> None:
    """Prints everything. With `plot`, draws the trade-off of the lease's length too."""
    with cluster(LEASE_SECONDS) as servers:
        with empty_servers() as empty:
            uvloop.run(_against_the_floor(servers, empty, rounds))
        _under_faults(servers)
    _cached_checks(rounds)
    _warm_sidecar()
    _renewals(min(_MOST_RENEWAL_ROUNDS, rounds // 10))
    if plot is not None:
        _trade_off(plot)


# --- when all is well --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sample:
    """One revocation, and the floor right before it. In seconds."""

    revision: int
    call: float
    notify: float
    fan_out: float


async def _against_the_floor(servers: Cluster, empty: Sequence[ServerProcess], rounds: int) -> None:
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
    _report_fences(servers, samples[_WARM_UP:])


def _report_fences(servers: Cluster, samples: Sequence[_Sample]) -> None:
    fences, commits = servers.seconds("fence"), servers.seconds("commit")
    fence = [fences[one.revision] for one in samples]
    floor = [one.notify + one.fan_out for one in samples]
    ratios = [a / b for a, b in zip(fence, floor, strict=True)]
    print(
        f"\nRevocations with {SERVERS} servers on PostgreSQL and {HOLDERS} holders, "
        f"{len(samples)} of them, each after its floor; milliseconds"
    )
    print(f"{'':44}{'median':>9}{'p99':>9}")
    for title, seconds in (
        ("a NOTIFY there and back", [one.notify for one in samples]),
        ("a message to each stream, and its reply", [one.fan_out for one in samples]),
        ("the floor, both together", floor),
        ("fence: from the commit to the OK", fence),
        ("commit, alone", [commits[one.revision] for one in samples]),
        ("RevokeKey, at the client", [one.call for one in samples]),
    ):
        print(f"{title:44}{_median_ms(seconds):9.3f}{_p99(seconds) * 1e3:9.3f}")
    print(
        f"fence / floor: {statistics.median(ratios):.2f} in the median (at most 2); "
        f"p99 of the fence: {_p99(fence) / statistics.median(fence):.2f} times its median "
        "(at most 5)"
    )


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
        # As the servers' own news do: nothing of this has to outlive a crash.
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


def _under_faults(servers: Cluster) -> None:
    wait = LeaseTerms(length=LEASE_SECONDS).wait
    print(f"\nRevocations while one holder is at fault; W is {wait:.3f} s; milliseconds")
    print(f"{'':34}{'the first':>11}{'the next ones'}")
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
                _revoke_some(f"a client's cache, {title}", client, keys, servers)
        with (
            _cut_off(target) as (through, cut),
            holder_process(through, token, 1, LEASE_SECONDS),
        ):
            time.sleep(LEASE_SECONDS)
            cut()
            _revoke_some("a client's cache, cut off", client, keys, servers)
        other = servers.servers[-1].process
        other.suspend()
        try:
            _revoke_some("a server process, stopped", client, keys, servers)
            time.sleep(wait + LEASE_SECONDS)
            _revoke_some("  and after it was struck off", client, keys, servers)
        finally:
            other.resume()
        time.sleep(wait)
        _revoke_some("  and when it was back", client, keys, servers)
        _kill(other)
        _revoke_some("a server process, killed", client, keys, servers)
        time.sleep(wait + LEASE_SECONDS)
        _revoke_some("  and after it was struck off", client, keys, servers)


def _kill(process: psutil.Process) -> None:
    process.kill()
    with contextlib.suppress(psutil.TimeoutExpired):
        process.wait(5)


def _revoke_some(title: str, client: Client, keys: list[str], servers: Cluster) -> None:
    revisions = [client.revoke_key(keys.pop()).revision for _ in range(5)]
    fences = servers.seconds("fence")
    first, *others = (fences[revision] * 1e3 for revision in revisions)
    print(f"{title:34}{first:11.1f}   {' '.join(f'{one:.1f}' for one in others)}")


@contextmanager
def _cut_off(target: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """A way to a server through a proxy, and how to have nothing get through any more."""
    with tempfile.TemporaryDirectory(prefix="kfb-") as directory:
        through = f"{directory}/link"
        with Links({"link": (through, target.removeprefix("unix:"))}) as links:
            yield f"unix:{through}", lambda: links.set("link", Mode.BLACKHOLE)


# --- what it saves -----------------------------------------------------------------------


def _cached_checks(rounds: int) -> None:
    """A check from a client's memory against the same client's own call, in turn."""
    hits: list[int] = []
    calls: list[int] = []
    with (
        one_server(LEASE_SECONDS) as server,
        Client(server.target, token=server.token, cache=Cache()) as caching,
        Client(server.target, token=server.token) as calling,
    ):
        api_key = caching.create_key(
            keyspace="demo", account_id="bench", scopes=["vps:write"]
        ).api_key
        _until_cached(caching, api_key)
        clock = time.perf_counter_ns
        for _ in range(rounds):
            for _ in range(10):
                began = clock()
                calling.check_scope(api_key, "vps:read")
                calls.append(clock() - began)
            for _ in range(200):
                began = clock()
                caching.check_scope(api_key, "vps:read")
                hits.append(clock() - began)
        asynchronous = uvloop.run(_cached_checks_async(server, api_key, rounds))
    print(f"\nChecks on a known key, {len(calls)} calls and {len(hits)} hits in turn; microseconds")
    print(f"{'':24}{'call':>9}{'hit':>9}{'p99 of hits':>14}{'call / hit':>12}")
    for title, (called, hit) in (("Client", (calls, hits)), ("AsyncClient", asynchronous)):
        a, b = statistics.median(called), statistics.median(hit)
        print(f"{title:24}{a / 1e3:9.1f}{b / 1e3:9.2f}{_p99(hit) / 1e3:14.2f}{a / b:12.0f}")
    print("(at least 200 times, and 20 µs at most at the p99)")


async def _cached_checks_async(
    server: ServerProcess, api_key: str, rounds: int
) -> tuple[list[int], list[int]]:
    hits: list[int] = []
    calls: list[int] = []
    async with (
        AsyncClient(server.target, token=server.token, cache=Cache()) as caching,
        AsyncClient(server.target, token=server.token) as calling,
    ):
        while (status := caching.cache_status()) is None or not status.keys:
            await caching.check_scope(api_key, "vps:read")
            await asyncio.sleep(0.05)
        clock = time.perf_counter_ns
        for _ in range(rounds):
            for _ in range(10):
                began = clock()
                await calling.check_scope(api_key, "vps:read")
                calls.append(clock() - began)
            for _ in range(200):
                began = clock()
                await caching.check_scope(api_key, "vps:read")
                hits.append(clock() - began)
    return calls, hits


def _until_cached(client: Client, api_key: str) -> None:
    while (status := client.cache_status()) is None or not status.keys:
        client.check_scope(api_key, "vps:read")
        time.sleep(0.05)


def _warm_sidecar() -> None:
    """Checks at a sidecar that knows the keys, and what the server upstream heard of them."""
    keys, checks = 50, 1_000
    port = _free_port()
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
    print(f"\n{checks} checks on {keys} keys at a warm sidecar: {calls:.0f} calls upstream (0)")


def _calls_served(port: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        text: str = response.read().decode()
    lines = (line for line in text.splitlines() if line.startswith("keyfence_rpc_seconds_count"))
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def _renewals(rounds: int) -> None:
    """Beside an empty server that is sent as many messages, in turn."""
    ours, empty = [], []
    for _ in range(rounds):
        with one_server(LEASE_SECONDS) as server:
            ours.append(_seconds_a_message(server, LEASE_SECONDS, 8.0))
        with empty_servers(1) as (server,):
            empty.append(_seconds_a_message(server, LEASE_SECONDS, 8.0, is_empty=True))
    print(
        f"\n{MANY_HOLDERS} holders renewing at one server, L = {LEASE_SECONDS:g} s, and as many "
        f"messages to an empty one; medians of {rounds}"
    )
    print(f"{'':24}{'µs each':>10}{'of a core':>12}")
    for title, seconds in (("a renewal", ours), ("an empty answer", empty)):
        each = statistics.median(seconds)
        print(f"{title:24}{each * 1e6:10.0f}{_share(each, LEASE_SECONDS):12.1%}")
    ratio = statistics.median(a / b for a, b in zip(ours, empty, strict=True))
    print(f"a renewal / an empty answer: {ratio:.2f}")


def _seconds_a_message(
    server: ServerProcess, lease_seconds: float, seconds: float, *, is_empty: bool = False
) -> float:
    """What the server uses of the processor for one renewal.

    Told by how many there were: on a busy machine the holders do not always get round to
    renewing in time.
    """
    with holder_process(
        server.target, server.token, MANY_HOLDERS, lease_seconds, is_empty=is_empty
    ) as holders:
        time.sleep(lease_seconds)
        used, had = server.cpu_seconds(), leases_had(holders)
        time.sleep(seconds)
        return (server.cpu_seconds() - used) / (leases_had(holders) - had)


def _share(seconds_a_renewal: float, lease_seconds: float) -> float:
    """Of a core, for three renewals in a lease of each holder."""
    return seconds_a_renewal * MANY_HOLDERS / LeaseTerms(length=lease_seconds).renewal_interval


# --- the trade-off -----------------------------------------------------------------------


def _trade_off(plot: Path) -> None:
    points = []
    print(f"\n{'L, s':>6}{'renewal, of a core':>20}{'revoked under a fault, s':>26}")
    for lease_seconds in LEASES:
        with one_server(lease_seconds) as server:
            share = _share(_seconds_a_message(server, lease_seconds, 8.0), lease_seconds)
        took = _revoke_under_fault(lease_seconds)
        points.append(Point(lease_seconds, share, took))
        print(f"{lease_seconds:6g}{share:20.1%}{took:26.3f}")
    draw(points, MANY_HOLDERS, plot)


def _revoke_under_fault(lease_seconds: float) -> float:
    """The longest of a few revocations, right after a holder was stopped."""
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
    return max(took)


def _shares(count: int) -> list[int]:
    return [count // SERVERS + (number < count % SERVERS) for number in range(SERVERS)]


def _median_ms(seconds: Sequence[float]) -> float:
    return statistics.median(seconds) * 1e3


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


def _free_port() -> int:
    with socket(AF_INET, SOCK_STREAM) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
