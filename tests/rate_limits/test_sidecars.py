"""Limits through a sidecar: one count, upstream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from keyfence.v1 import rate_limit_pb2
from support.serving import Client, start_for_test

THREE = rate_limit_pb2.RateLimit(requests=3, window=Duration(seconds=86_400))


@pytest.fixture
async def doors() -> AsyncIterator[list[Client]]:
    """A server, and a sidecar of it."""
    async with AsyncExitStack() as running:
        directory = Path(running.enter_context(TemporaryDirectory(prefix="kf")))
        socket = f"unix:{directory}/server.sock"
        server = await start_for_test(directory / "server", listen=socket)
        running.push_async_callback(server.server.stop)
        running.push_async_callback(server.client.channel.close)
        await server.client.apply()
        sidecar = await start_for_test(
            directory / "sidecar", upstream=socket, upstream_token=server.client.root
        )
        running.push_async_callback(sidecar.server.stop)
        running.push_async_callback(sidecar.client.channel.close)
        sidecar.client.root = server.client.root
        yield [server.client, sidecar.client]


async def test_a_keys_own_limit_is_one_for_both_and_stays_one_when_it_is_rotated(
    doors: list[Client],
) -> None:
    server, _ = doors
    made = await server.make_key(rate_limit=THREE)
    answers: list[Any] = []
    for _ in range(3):
        answers += [
            await door.call("Authenticate", api_key=made.api_key) for door in reversed(doors)
        ]
        made = await server.call("RotateKey", key_id=made.key.key_id)
    assert [one.authenticated for one in answers] == [True] * 3 + [False] * 3
    assert [one.rate_limit.remaining for one in answers] == [2, 1, 0, 0, 0, 0]
    assert {one.rate_limit.count for one in answers} == {rate_limit_pb2.RATE_LIMIT_COUNT_WHOLE}
