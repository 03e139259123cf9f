"""What the metrics say of leases and fences, at servers and at sidecars."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from keyfence.v1 import replication_service_pb2 as messages
from support.serving import Served, read_metrics, start_for_test

Start = Callable[..., Awaitable[Served]]
FETCH_FACTS = "/keyfence.v1.ReplicationService/FetchFacts"


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts servers that serve metrics, each on a Unix socket in a directory of its name."""
    async with AsyncExitStack() as stack:

        async def start(name: str, **fields: Any) -> Served:
            served = await start_for_test(
                tmp_path / name,
                listen=f"unix:{tmp_path}/{name}.sock",
                metrics_listen="127.0.0.1:0",
                **fields,
            )
            stack.push_async_callback(served.server.stop)
            stack.push_async_callback(served.client.channel.close)
            return served

        yield start


async def value(served: Served, name: str, **labels: str) -> float:
    """A metric as it is now; nothing where there is none."""
    text = await asyncio.to_thread(read_metrics, served)
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def until_live(served: Served, *, renewals: int = 1) -> None:
    """Returns when the lease has been granted so often, and counts."""
    async with asyncio.timeout(30):
        while await value(served, "keyfence_lease_renewals_total") < renewals:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        while not await value(served, "keyfence_lease_live"):  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.05)


async def test_a_sidecar_says_how_its_lease_is_kept_and_what_it_asks(
    start: Start, tmp_path: Path
) -> None:
    """With counters of the store alone, a sidecar would seem to do nothing. Its load on the servers
    and the end of its lease would not show."""
    server = await start("server")
    await server.client.apply()
    made = await server.client.make_key()
    sidecar = await start(
        "sidecar",
        upstream=f"unix:{tmp_path}/server.sock",
        upstream_token=server.client.root,
    )
    await until_live(sidecar, renewals=2)
    age = await value(sidecar, "keyfence_lease_age_seconds")
    assert 0 < age < math.inf
    assert await value(sidecar, "keyfence_lease_left_seconds") > 0
    asked = await value(sidecar, "keyfence_upstream_seconds_count", method=FETCH_FACTS)
    answer = await sidecar.client.call(
        "Authenticate", credential=server.client.root, api_key=made.api_key
    )
    assert answer.authenticated
    now = await value(sidecar, "keyfence_upstream_seconds_count", method=FETCH_FACTS)
    # The credential, which is to be known as well, and the key.
    assert now == asked + 2
    assert await value(sidecar, "keyfence_upstream_unanswered_total", method=FETCH_FACTS) == 0


async def test_a_server_that_has_its_store_to_itself_needs_no_lease(start: Start) -> None:
    server = await start("server")
    assert await value(server, "keyfence_lease_left_seconds") == math.inf
    assert await value(server, "keyfence_lease_age_seconds") == 0


async def waited(served: Served, of: str, by: str) -> float:
    return await value(served, "keyfence_fence_seconds_count", of=of, by=by)


async def test_a_holder_that_had_to_be_waited_out_shows_as_time(
    start: Start, tmp_path: Path
) -> None:
    """However long it took. A lease is often past its middle when the mutation comes, so that
    less than W is waited."""
    server = await start("server", lease_seconds=0.5)
    await server.client.apply()
    made = await server.client.make_key()
    assert await waited(server, "mutation", "time") == 0
    acknowledged = await waited(server, "mutation", "acknowledgements")
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/server.sock") as channel:
        call: Any = channel.stream_stream(
            "/keyfence.v1.ReplicationService/Sync",
            request_serializer=messages.SyncRequest.SerializeToString,
            response_deserializer=messages.SyncResponse.FromString,
        )(metadata=(("authorization", f"Bearer {server.client.root}"),))
        hello = messages.Hello(holder_id=secrets.token_hex(16), kind=messages.HOLDER_KIND_SDK)
        await call.write(messages.SyncRequest(hello=hello))
        async with asyncio.timeout(30):
            # A busy machine can let a lease run out before the mutation comes.
            nonce = 0
            while not await waited(server, "mutation", "time"):
                nonce += 1
                await call.write(messages.SyncRequest(renew=messages.Renew(nonce=nonce)))
                while (await call.read()).lease.nonce != nonce:
                    pass
                await server.client.call("RotateKey", key_id=made.key.key_id)
                made = await server.client.make_key()
        call.cancel()
    assert await waited(server, "repetition", "acknowledgements") == 0
    for _ in range(2):
        await server.client.call("RevokeKey", key_id=made.key.key_id)
    assert await waited(server, "mutation", "acknowledgements") > acknowledged
    assert await waited(server, "repetition", "acknowledgements") == 1
