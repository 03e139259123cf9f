"""What an attack costs the server's memory: a real process, and clients that mean no good."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator

import psutil
import pytest

import keyfence
from keyfence import errors
from support.raw_http2 import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    RawConnection,
    frame,
    grpc_headers,
    header_frames,
)
from support.served import Served

PATH = b"/keyfence.v1.AuthorizationService/WhoAmI"
CALL = grpc_headers(PATH, (b"authorization", b"Bearer x"))
MOST_GROWTH_BYTES = 100 * 1024 * 1024
"""What buffers, allocators and calls under way may come to. Each attack sends so much, or so
often, that without a bound it would be more."""

Attack = Callable[[RawConnection], Awaitable[None]]


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
        "KEYFENCE_LOG_LEVEL": "error",
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


async def rapid_reset(connection: RawConnection) -> None:
    for first in range(1, 40_000, 200):
        await connection.send(
            b"".join(
                frame(HEADERS, END_HEADERS | END_STREAM, stream, CALL)
                + frame(RST_STREAM, 0, stream, (8).to_bytes(4, "big"))
                for stream in range(first, first + 200, 2)
            )
        )


async def ping_flood(connection: RawConnection) -> None:
    for _ in range(1_000):
        await connection.send(1_000 * frame(PING, 0, 0, bytes(8)))


async def settings_flood(connection: RawConnection) -> None:
    for _ in range(1_000):
        await connection.send(1_000 * frame(SETTINGS, 0, 0))


async def headers_without_end(connection: RawConnection) -> None:
    await connection.send(frame(HEADERS, END_STREAM, 1, CALL))
    piece = b"\x10\x01x\x7f\x80\x7f" + bytes(16_255)
    for _ in range(16_384):
        await connection.send(frame(CONTINUATION, 0, 1, piece))


async def metadata_bombs(connection: RawConnection) -> None:
    bomb = grpc_headers(PATH, (b"x-big", b"x" * 1_000_000))
    for stream in range(1, 600, 2):
        await connection.send(header_frames(stream, 0, bomb))


async def calls_without_end(connection: RawConnection) -> None:
    for stream in range(1, 20_000, 2):
        await connection.send(frame(HEADERS, END_HEADERS, stream, CALL))


async def giant_messages(connection: RawConnection) -> None:
    for stream in range(1, 600, 2):
        await connection.call(stream, CALL, bytes(65_000))


@pytest.mark.parametrize(
    "attack",
    [
        rapid_reset,
        ping_flood,
        settings_flood,
        headers_without_end,
        metadata_bombs,
        calls_without_end,
        giant_messages,
    ],
)
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
            connection = await RawConnection.open(port)
            assert await connection.receive_until(SETTINGS) is not None
            await connection.send(frame(SETTINGS, ACK, 0))
            # Being cut off is an answer, and so is not being read any more.
            with contextlib.suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(1):
                    await attack(connection)
            highest = max(highest, process.memory_info().rss)
            connection.abort()
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
