"""What an attack costs the server's memory: a real process, and clients that mean no good."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import grpc
import psutil
import pytest

import keyfence
from keyfence import errors
from keyfence_server.rpc.sockets import HAS_FILTERS
from support.attacks import (
    ATTACKS,
    CALL,
    PATH,
    Attack,
    attacked,
    rapid_reset,
    reset_and_reconnect,
    unconfirmed_bombs,
)
from support.raw_http2 import PING, Frame, RawConnection, frame
from support.served import Served

ATTACKER = "127.0.0.2"
PROXY = "127.0.0.3"
"""Its clients are not cut off, so that what an attack takes is all that it can take."""

NO_RETRIES = ("grpc.enable_retries", 0)

MOST_GROWTH_BYTES = 250 * 1024 * 1024
"""What buffers, allocators and calls under way may come to. Each attack sends so much, or so
often, that without a bound it would be more. A single connection with headers of a megabyte, each
refused, brings the allocators to some 150 MB in five seconds, and then to no more."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, int]]:
    """A server process and its port, for all the attacks."""
    directory = tmp_path_factory.mktemp("attacked")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    settings = {
        "KEYFENCE_LISTEN": f"127.0.0.1:{port}",
        "KEYFENCE_MAX_CONNECTIONS": "500",
        "KEYFENCE_LOG_LEVEL": "warning",
        "KEYFENCE_TRUSTED_PROXIES": PROXY,
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
            async with attacked(port, attack, source=PROXY):
                highest = max(highest, process.memory_info().rss)
            await answered(client)
        assert highest - before < MOST_GROWTH_BYTES


async def test_large_metadata_is_not_kept(server: tuple[Served, int]) -> None:
    """Of a client that does not confirm the settings gRPC reads a hundred calls whatever their
    metadata, here a megabyte each. Kept, those of ten clients come to some two gigabytes."""
    served, port = server
    process = psutil.Process(served.pid)
    before = process.memory_info().rss
    for _ in range(3):
        async with contextlib.AsyncExitStack() as open_connections:
            attacks = (attacked(port, unconfirmed_bombs, source=PROXY) for _ in range(10))
            await asyncio.gather(*(open_connections.enter_async_context(one) for one in attacks))
            assert process.memory_info().rss - before < 1_200 * 1024 * 1024


def measures_against(served: Served, address: str) -> list[str]:
    """What the log says was done about an address, in order."""
    events = (json.loads(line) for line in served.output.splitlines() if line.startswith("{"))
    return [
        event["measure"]
        for event in events
        if event["event"] == "flood" and address in event["peer"]
    ]


@pytest.mark.skipif(not HAS_FILTERS, reason="needs Linux's socket filters")
@pytest.mark.parametrize(
    ("attack", "address"),
    [
        (rapid_reset, "127.0.1.1"),
        (reset_and_reconnect, "127.0.1.2"),
    ],
)
async def test_it_is_silenced(server: tuple[Served, int], attack: Attack, address: str) -> None:
    """From then on the server does not even confirm a ping, and does not hang up either."""
    served, port = server
    async with attacked(port, attack, source=address) as connection:
        served.wait_for(address)
        await read_all(connection)
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(0.1):
                await connection.send(frame(PING, 0, 0, bytes(8)))
        assert not await read_all(connection)
    assert measures_against(served, address)[0] == "silenced"


async def test_who_has_no_credential_and_takes_the_answers_is_told(
    server: tuple[Served, int],
) -> None:
    """It may have had a good one until a moment ago."""
    served, port = server
    address = "127.0.1.3"
    connection = await RawConnection.open(port, source=address)
    with contextlib.suppress(ConnectionError):
        for stream in range(1, 400, 2):
            await connection.call(stream, CALL)
        while await connection.receive():
            pass
    connection.abort()
    served.wait_for(address)
    assert measures_against(served, address) == ["closed"]


async def test_good_clients_are_left_alone(server: tuple[Served, int]) -> None:
    """Whatever comes from elsewhere, and even if it makes as many calls that it gives up."""
    served, port = server
    credential = (("authorization", f"Bearer {served.root_key}"),)
    async with grpc.aio.insecure_channel(served.target, options=[NO_RETRIES]) as channel:
        who_am_i: Any = channel.unary_unary(PATH.decode())
        attacking = asyncio.create_task(attack_again_and_again(port))
        while not attacking.done():
            given_up = [who_am_i(b"", metadata=credential) for _ in range(20)]
            await asyncio.gather(*(who_am_i(b"", metadata=credential) for _ in range(20)))
            for call in given_up:
                call.cancel()
        await attacking
    assert not measures_against(served, "127.0.0.1:")
    assert measures_against(served, ATTACKER)


async def read_all(connection: RawConnection) -> list[Frame]:
    """What comes until nothing does. The server must not hang up."""
    frames = []
    with contextlib.suppress(TimeoutError):
        while received := await connection.receive(0.3):
            frames.append(received)
        raise AssertionError("the server has closed the connection")
    return frames


async def attack_again_and_again(port: int) -> None:
    """On one connection after the other, as far as they are let in."""
    for _ in range(4):
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.5), attacked(port, rapid_reset, source=ATTACKER):
                pass


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
