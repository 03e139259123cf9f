"""A store of many keys against one of a thousand, on SQLite and on PostgreSQL.

What is compared is measured in turn, in one run, and told as a ratio. The processor time is that of
the server's process, with PostgreSQL's processes where the store is PostgreSQL. Before each round
of cold checks the keyspace is changed, which makes the server forget every key.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

import uvloop
from google.protobuf.message import Message

from bench.large_store import (
    LIMITED,
)
from bench.listings import measure_pages
from bench.processes import (
    ServerProcess,
    empty_echo,
)
from bench.report import RATIO, Report, Table, ratios
from bench.scale_servers import SMALL, Server, Site, Sizes, postgresql_sites, sqlite_sites
from keyfence.v1 import authorization_service_pb2 as checks
from keyfence.v1 import key_service_pb2 as of_keys
from keyfence.v1 import keyspace_pb2
from keyfence.v1 import keyspace_service_pb2 as of_keyspaces

BATCH: Final = 32
REPEATED: Final = 256
"""How many keys are asked about again and again."""
MOST_IN_A_BATCH: Final = 256
AT_A_TIME: Final = 10
ELSEWHERE: Final = "elsewhere"


def measure(report: Report, sizes: Sizes) -> None:
    """Measures on SQLite and on PostgreSQL."""
    title = f"A store of {sizes.keys:,} keys beside one of {SMALL:,}: {sizes.rounds} rounds in turn"
    table = report.table("scale", title)
    with tempfile.TemporaryDirectory(prefix="kfb-") as name:
        for kind in (sqlite_sites, postgresql_sites):
            with kind(Path(name), sizes) as (large, small):
                uvloop.run(_measure(table, large, small, sizes))


async def _measure(table: Table, large: Site, small: Site, sizes: Sizes) -> None:
    with ExitStack() as stack:
        many, few = (stack.enter_context(site.served()) for site in (large, small))
        answer = await many.call("AuthorizationService/CheckScope", _check(large.store.known[-1]))
        echo = stack.enter_context(empty_echo(len(answer)))
        floor = Server(
            ServerProcess(echo.name, echo.target, large.token, echo.process),
            replace(large, database=None),
        )
        await _checks(table, many, few, floor, sizes)
        await measure_pages(table, many, sizes.rounds)
        await _memory(table, many, sizes)
    await _start_ups(table, large, small, sizes)
    await _pauses(table, large, sizes)


async def _checks(table: Table, many: Server, few: Server, floor: Server, sizes: Sizes) -> None:
    name = many.site.name
    took: dict[str, list[float]] = {}

    def note(what: str, value: float) -> None:
        took.setdefault(what, []).append(value)

    for number in range(sizes.rounds + 1):
        single = [_check(text).SerializeToString() for text in _plain(many.site)[: sizes.cold]]
        of_few = [_check(text).SerializeToString() for text in _plain(few.site)[: sizes.cold]]
        batches = _batches_of(_plain(many.site)[: sizes.batched])
        limited = [_check(text).SerializeToString() for text in many.site.store.known[:LIMITED]]
        steps: list[tuple[str, Server, list[bytes]]] = []
        repeated = _repeated_to(sizes.hot, single[:REPEATED])
        steps += [
            ("cold", many, single),
            ("cold of few", few, of_few),
            ("hot", many, repeated),
            ("hot of few", few, _repeated_to(sizes.hot, of_few[:REPEATED])),
            ("echo", floor, repeated),
            ("limited", many, _repeated_to(sizes.hot, limited)),
            ("cold batch", many, batches),
            ("hot batch", many, batches * 2),
            ("same in batches", many, _repeated_to(sizes.hot // 8, batches[: REPEATED // BATCH])),
        ]
        for what, server, requests in steps:
            if what.startswith("cold"):
                await server.change_keyspace(number)
                # So that the keyspace itself is in memory again.
                text = server.site.store.known[-1]
                await server.call("AuthorizationService/CheckScope", _check(text))
            is_batch = "batch" in what
            method = "BatchCheckScope" if is_batch else "CheckScope"
            spent, answers = await server.send(f"AuthorizationService/{method}", requests)
            if server is not floor:
                _require_allowed(answers, is_batch=is_batch)
            if number:  # the first round warms up
                note(what, spent)

    def add(label: str, values: Sequence[float]) -> None:
        table.add(label, "processor, µs a check", values, group=name)

    took["in a batch"] = [one / BATCH for one in took["same in batches"]]

    def add_ratio(label: str, what: str, to: str, at_most: float) -> None:
        compared = ratios(took[what], took[to])
        table.add(label, RATIO, compared, group=name, at_most=at_most)

    many_keys = f"{sizes.keys:,}"
    add("an empty call", took["echo"])
    add(f"a hot check at {many_keys}", took["hot"])
    add_ratio("hot ÷ an empty call", "hot", "echo", 1.1)
    add_ratio(f"hot at {many_keys} ÷ at {SMALL:,}", "hot", "hot of few", 1.05)
    add(f"a cold check at {many_keys}", took["cold"])
    add_ratio("cold ÷ an empty call", "cold", "echo", 4.5 if many.site.database else 3)
    add_ratio(f"cold at {many_keys} ÷ at {SMALL:,}", "cold", "cold of few", 1.3)
    add(f"a hot check in a batch of {BATCH}", took["in a batch"])
    add_ratio("hot, in a batch ÷ by itself", "in a batch", "hot", 0.07)
    add_ratio("cold batch ÷ hot batch", "cold batch", "hot batch", 4)
    add_ratio("hot, of a key with a rate limit ÷ without", "limited", "hot", 1.1)


async def _memory(table: Table, server: Server, sizes: Sizes) -> None:
    """What cached keys take of memory, and what many checks from memory leave behind."""
    await server.change_keyspace(-1)
    known = _plain(server.site)
    method = "AuthorizationService/BatchCheckScope"
    await server.send(method, _batches_of(known[:BATCH]))
    before = server.resident_bytes()
    cached = known[: sizes.cached]
    await server.send(method, _batches_of(cached))
    grown = (server.resident_bytes() - before) / len(cached) / 1024
    name = server.site.name
    what = f"a cached key, of {len(cached):,}"
    table.add(what, "memory, KiB", [grown], group=name, at_most=2)
    [batch] = _batches_of(cached[:MOST_IN_A_BATCH], size=MOST_IN_A_BATCH)

    async def check(count: int) -> int:
        """What the server has of memory after so many checks."""
        for _ in range(max(1, count // MOST_IN_A_BATCH // AT_A_TIME)):
            await server.send(method, [batch] * AT_A_TIME)
        return server.resident_bytes()

    few, many = sizes.many_checks // 100, sizes.many_checks
    before, after = await check(few), await check(many - few)
    what = f"memory after {many:,} hot checks ÷ after {few:,}"
    table.add(what, RATIO, [after / before], group=name, at_most=1.02)


async def _start_ups(table: Table, large: Site, small: Site, sizes: Sizes) -> None:
    seconds: dict[str, list[float]] = {"large": [], "small": []}
    for _ in range(sizes.rounds):
        for which, site in (("large", large), ("small", small)):
            began = time.perf_counter()
            with site.served() as server:
                text = site.store.known[-1]
                await server.call("AuthorizationService/CheckScope", _check(text))
                seconds[which].append(time.perf_counter() - began)
    table.compare(
        "time, s",
        {
            f"start to the first answer at {sizes.keys:,}": seconds["large"],
            f"start to the first answer at {SMALL:,}": seconds["small"],
        },
        ratio=f"start at {sizes.keys:,} ÷ at {SMALL:,}",
        group=large.name,
        at_most=1.2,
    )


async def _pauses(table: Table, site: Site, sizes: Sizes) -> None:
    """How long checks, and mutations of another keyspace, wait while a catalog is applied."""
    with site.watched() as (server, read_watch):
        keyspace = keyspace_pb2.Keyspace(
            name=ELSEWHERE, scopes=[keyspace_pb2.Scope(name="vps:read")]
        )
        await server.call(
            "KeyspaceService/ApplyKeyspace", of_keyspaces.ApplyKeyspaceRequest(keyspace=keyspace)
        )
        made = of_keys.CreateKeyResponse.FromString(
            await server.call("KeyService/CreateKey", _new_key())
        )
        waits: dict[str, list[float]] = {}
        for number in range(1, min(sizes.rounds, 3) + 1):
            for what in ("alone", "applying"):
                read_watch()
                resident = server.resident_bytes()
                async with AsyncExitStack() as stack:
                    checking = await _repeated(
                        stack, server, "AuthorizationService/CheckScope", _check(made.api_key)
                    )
                    creating = await _repeated(stack, server, "KeyService/CreateKey", _new_key())
                    began = time.perf_counter()
                    if what == "alone":
                        await asyncio.sleep(2.0 if sizes.rounds > 1 else 0.2)
                    else:
                        await server.change_scopes(number)
                    seconds = time.perf_counter() - began
                    grown = (server.resident_bytes() - resident) / 2**20
                held, by_the_clock, _ = read_watch()
                waits.setdefault(f"check {what}", []).append(max(checking) * 1000)
                waits.setdefault(f"mutation {what}", []).append(max(creating) * 1000)
                waits.setdefault(f"held {what}", []).append(held)
                waits.setdefault(f"clock {what}", []).append(by_the_clock)
                waits.setdefault(f"seconds {what}", []).append(seconds)
                waits.setdefault(f"grown {what}", []).append(grown)
    while_applied, alone = "while a catalog is applied", "while nothing is applied"
    for label, quantity, what, at_most in (
        ("a catalog is applied over all keys", "time, s", "seconds applying", None),
        ("a catalog is applied over all keys", "memory, MiB", "grown applying", None),
        (f"of processor, {while_applied}", "event loop held, ms", "held applying", 20),
        (f"by the clock, {while_applied}", "event loop held, ms", "clock applying", None),
        (f"by the clock, {alone}", "event loop held, ms", "clock alone", None),
        (f"a check {while_applied}", "longest wait, ms", "check applying", None),
        (f"a check {alone}", "longest wait, ms", "check alone", None),
        (f"a mutation elsewhere {while_applied}", "longest wait, ms", "mutation applying", 1_000),
        (f"a mutation elsewhere {alone}", "longest wait, ms", "mutation alone", None),
    ):
        table.add(label, quantity, waits[what], group=site.name, at_most=at_most)


async def _repeated(
    stack: AsyncExitStack, server: Server, method: str, request: Message
) -> list[float]:
    """Repeats a call until the stack ends. The list has the seconds of each."""
    channel = await stack.enter_async_context(server.channel())
    ask = server.method(channel, method)
    encoded = request.SerializeToString()
    await ask(encoded)
    waits: list[float] = [0.0]

    async def repeat() -> None:
        while True:
            sent = time.perf_counter()
            await ask(encoded)
            waits.append(time.perf_counter() - sent)

    task = asyncio.create_task(repeat())

    async def stop() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(stop)
    return waits


def _repeated_to(count: int, requests: Sequence[bytes]) -> list[bytes]:
    return [*itertools.islice(itertools.cycle(requests), count)]


def _new_key() -> of_keys.CreateKeyRequest:
    return of_keys.CreateKeyRequest(keyspace=ELSEWHERE, account_id="a", scopes=["vps:read"])


def _check(text: str) -> checks.CheckScopeRequest:
    return checks.CheckScopeRequest(api_key=text, required_scopes=["vps:read"])


def _plain(site: Site) -> tuple[str, ...]:
    """The known keys without a rate limit."""
    return site.store.known[LIMITED:]


def _batches_of(texts: Sequence[str], *, size: int = BATCH) -> list[bytes]:
    return [
        checks.BatchCheckScopeRequest(
            checks=map(_check, texts[start : start + size])
        ).SerializeToString()
        for start in range(0, len(texts) - size + 1, size)
    ]


def _require_allowed(answers: Iterable[bytes], *, is_batch: bool) -> None:
    for answer in answers:
        if is_batch:
            results = checks.BatchCheckScopeResponse.FromString(answer).results
            responses = [one.response for one in results]
        else:
            responses = [checks.CheckScopeResponse.FromString(answer)]
        for response in responses:
            if not response.allowed:
                raise RuntimeError(f"a check was answered with {response}")
