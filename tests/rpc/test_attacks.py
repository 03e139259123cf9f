"""What an attack costs the server's memory: a real process, and clients that mean no good."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import psutil
import pytest

import keyfence
from keyfence import errors
from support.served import Served
from testkit.attacks import (
    ATTACKS,
    Attack,
    attacked,
    unconfirmed_bombs,
)
from testkit.ports import free_port

MOST_GROWTH_BYTES = 250 * 1024 * 1024
"""What buffers, allocators and calls under way may come to. Each attack sends so much, or so
often, that without a bound it would be more. A single connection with headers of a megabyte, each
refused, brings the allocators to some 150 MB in five seconds, and then to no more."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, int]]:
    """A server process and its port, for all the attacks."""
    directory = tmp_path_factory.mktemp("attacked")
    port = free_port()
    settings = {
        "KEYFENCE_LISTEN": f"127.0.0.1:{port}",
        "KEYFENCE_MAX_CONNECTIONS": "500",
        "KEYFENCE_LOG_LEVEL": "warning",
        "KEYFENCE_DRAIN_SECONDS": "0",
    }
    served = Served(directory, settings)
    yield served, port
    served.stop()


async def answered(client: keyfence.AsyncClient) -> None:
    """Returns once the client is answered: gRPC gives up calls while a flood's are waiting."""
    async with asyncio.timeout(30):
        while True:
            try:
                await client.who_am_i()
            except errors.CallFailed:
                await asyncio.sleep(0.01)
            else:
                return


@pytest.mark.parametrize("attack", [one for one in ATTACKS if one is not unconfirmed_bombs])
async def test_memory_is_bounded(server: tuple[Served, int], attack: Attack) -> None:
    served, port = server
    process = psutil.Process(served.pid)
    async with keyfence.AsyncClient(
        served.target, token=served.root_key, insecure_plaintext=True
    ) as client:
        await answered(client)
        before = process.memory_info().rss
        highest = 0
        for _ in range(3):
            async with attacked(port, attack):
                highest = max(highest, process.memory_info().rss)
            await answered(client)
        assert highest - before < MOST_GROWTH_BYTES


async def test_connections_that_say_nothing_take_no_memory(server: tuple[Served, int]) -> None:
    served, port = server
    process = psutil.Process(served.pid)
    before = process.memory_info().rss
    writers = []
    for _ in range(1_000):
        with contextlib.suppress(ConnectionError):
            writers.append((await asyncio.open_connection("127.0.0.1", port))[1])
    assert process.memory_info().rss - before < MOST_GROWTH_BYTES
    for writer in writers:
        writer.transport.abort()
