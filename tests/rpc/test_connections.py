"""What one connection may do, and for how long: each limit of `Limits` by itself.

gRPC's own defaults are generous, and quiet: a limit that it is no longer told shows in
nothing but these.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import psutil
import pytest

from keyfence_server.rpc.listen_addresses import TcpAddress, parse_listen_address
from keyfence_server.rpc.server import Limits, RpcServer
from testkit.raw_http2 import (
    ACK,
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    PING,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    Frame,
    RawConnection,
    frame,
    grpc_headers,
)

ECHO = "/test.Echo/Call"
CALL = grpc_headers(ECHO.encode())
PINGED = frame(PING, 0, 0, bytes(8))


async def confirm_settings(connection: RawConnection) -> None:
    """Waits for the server's settings and confirms them, from when on they hold."""
    assert await connection.receive_until(SETTINGS) is not None
    await connection.send(frame(SETTINGS, ACK, 0))


async def call_without_end(connection: RawConnection) -> None:
    """Begins a call whose message never comes."""
    await connection.send(frame(HEADERS, END_HEADERS, 1, CALL))


async def _echo(request: bytes, _context: object) -> bytes:
    return request


@asynccontextmanager
async def listening(
    answer: Any = _echo,
    **limits: Any,
) -> AsyncIterator[int]:
    """A server with these limits, and its port."""
    server = RpcServer({ECHO: grpc.unary_unary_rpc_method_handler(answer)}, Limits(**limits))
    taken = server.listen(parse_listen_address("127.0.0.1:0"), None)
    assert isinstance(taken, TcpAddress)
    await server.start()
    try:
        yield taken.port
    finally:
        await server.stop(None)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[RawConnection]:
    """A connection, after the server has said its settings."""
    connection = await RawConnection.open(port)
    try:
        yield connection
    finally:
        await connection.close()


async def next_about(stream: int, connection: RawConnection) -> Frame:
    """The next frame about a call, the ones about others left out."""
    while (received := await connection.receive()) is None or received.stream != stream:
        assert received is not None
    return received


async def read_to_the_end(connection: RawConnection) -> list[Frame]:
    """All that comes until the server closes the connection, which it must soon."""
    frames = []
    while (received := await connection.receive()) is not None:
        frames.append(received)
    return frames


def kept_by_the_kernel(port: int) -> set[int]:
    """How long the kernel waits for the other host to confirm what was sent, in milliseconds,
    at every socket of this process on the port."""
    found = set()
    for one in psutil.Process().net_connections("tcp"):
        if one.laddr.port == port:
            with socket.socket(fileno=os.dup(one.fd)) as held:
                found.add(held.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
    return found


async def test_a_connection_without_calls_is_closed() -> None:
    async with listening(connection_idle_seconds=0.1) as port, connected(port) as connection:
        assert await connection.receive_until(GOAWAY) is not None


async def test_a_call_that_outlives_its_connection_has_a_grace_and_no_more() -> None:
    limits = {"connection_age_seconds": 0.1, "connection_age_grace_seconds": 0.1}
    async with listening(**limits) as port, connected(port) as connection:
        await call_without_end(connection)
        assert GOAWAY in {received.kind for received in await read_to_the_end(connection)}


async def test_a_connection_that_does_not_confirm_the_settings_is_given_up() -> None:
    """Until then gRPC holds no client to them: megabytes of metadata are taken, say."""
    async with listening(handshake_seconds=0.1) as port, connected(port) as connection:
        await call_without_end(connection)
        await read_to_the_end(connection)


async def test_a_connection_that_confirms_the_settings_in_time_stays() -> None:
    limits = {"handshake_seconds": 0.1, "keepalive_seconds": 0.3}
    async with listening(**limits) as port, connected(port) as connection:
        await confirm_settings(connection)
        assert await connection.receive_until(PING) is not None


async def test_a_silent_connection_is_asked_whether_it_lives() -> None:
    async with listening(keepalive_seconds=0.1) as port, connected(port) as connection:
        asked = await connection.receive_until(PING)
        assert asked is not None
        assert not asked.flags & ACK


async def test_a_connection_that_does_not_answer_is_given_up() -> None:
    limits = {"keepalive_seconds": 0.1, "keepalive_timeout_seconds": 0.1}
    async with listening(**limits) as port, connected(port) as connection:
        assert PING in {received.kind for received in await read_to_the_end(connection)}


async def test_a_host_that_confirms_nothing_is_given_up() -> None:
    """It would take a cable to pull, so the kernel is asked what it was told."""
    async with listening(keepalive_timeout_seconds=7) as port, connected(port) as connection:
        await connection.receive_until(SETTINGS)
        assert kept_by_the_kernel(port) == {7_000}


@pytest.mark.parametrize("with_a_call", [False, True])
async def test_pings_that_keep_their_distance_are_answered(*, with_a_call: bool) -> None:
    """With a call and without one: gRPC has a distance of its own for each."""
    async with listening(ping_interval_seconds=0.001) as port, connected(port) as connection:
        if with_a_call:
            await call_without_end(connection)
        for _ in range(6):
            await connection.send(PINGED)
            answer = await connection.receive_until(PING)
            assert answer is not None, "it was one ping too many"
            await asyncio.sleep(0.005)  # Ours to keep: time is the subject.


async def test_two_pings_too_many_are_borne() -> None:
    async with listening(ping_interval_seconds=3_600) as port, connected(port) as connection:
        # The first one is not too many.
        await connection.send(3 * PINGED)
        await connection.call(1, CALL)
        answered = 0
        while (received := await connection.receive()) is not None and received.kind != HEADERS:
            answered += received.kind == PING and bool(received.flags & ACK)
        assert received is not None
        assert answered == 3


async def test_the_third_ping_too_many_ends_the_connection() -> None:
    async with listening(ping_interval_seconds=3_600) as port, connected(port) as connection:
        await connection.send(4 * PINGED)
        last = await connection.receive_until(GOAWAY)
        assert last is not None
        assert int.from_bytes(last.payload[4:8], "big") == ENHANCE_YOUR_CALM


@pytest.mark.parametrize("limit", [4 * 1024, 48 * 1024])
async def test_the_limit_of_metadata_is_one_line(limit: int) -> None:
    """Left to itself gRPC has two limits, and refuses calls between them by chance: the more
    often, the larger they are. Clients of gRPC's own would not even send what is too large."""
    async with listening(metadata_bytes=limit) as port, connected(port) as connection:
        await confirm_settings(connection)

        async def is_answered(stream: int, size: int) -> bool:
            await connection.call(stream, grpc_headers(ECHO.encode(), (b"x-big", b"x" * size)))
            while (received := await connection.receive()) is not None:
                # What is refused has no message.
                if received.stream == stream and received.kind == DATA:
                    return True
                if received.stream == stream and received.flags & END_STREAM:
                    return False
            raise AssertionError("the connection was closed")

        # A kilobyte is for what else there is, and for what HTTP/2 counts for each entry.
        below = [await is_answered(1 + 2 * n, limit - 1_024) for n in range(40)]
        above = [await is_answered(1 + 2 * n, limit + 10) for n in range(40, 43)]
    assert (below, above) == ([True] * 40, [False] * 3)


async def test_calls_that_were_reset_count_until_they_are_tidied_up() -> None:
    """Rapid reset, CVE-2023-44487: for the client they have ended, and they cost the server."""
    begun, over = asyncio.Semaphore(0), asyncio.Event()

    async def not_tidied_up(request: bytes, _context: object) -> bytes:
        begun.release()
        while not over.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await over.wait()
        return request

    async def call(stream: int) -> Frame:
        await connection.call(stream, CALL)
        return await next_about(stream, connection)

    async with (
        listening(not_tidied_up, streams_per_connection=20) as port,
        connected(port) as connection,
    ):
        await confirm_settings(connection)
        try:
            # As many again as may be open may be waiting to be tidied up, and one more.
            for stream in range(1, 2 * 41, 2):
                await connection.call(stream, CALL)
                await asyncio.wait_for(begun.acquire(), 5)
                await connection.send(frame(RST_STREAM, 0, stream, CANCEL))
            refused = await call(83)
        finally:
            over.set()
        assert (refused.kind, refused.payload) == (RST_STREAM, REFUSED_STREAM)
        stream = 85
        async with asyncio.timeout(5):
            while (await call(stream)).kind == RST_STREAM:
                stream += 2


async def test_the_limits_are_told_to_clients() -> None:
    """So that those that mean well keep to them."""
    limits = {"streams_per_connection": 7, "metadata_bytes": 5_000}
    async with listening(**limits) as port, connected(port) as connection:
        settings = await connection.receive_until(SETTINGS)
    assert settings is not None
    entries = [settings.payload[at : at + 6] for at in range(0, len(settings.payload), 6)]
    told = {int.from_bytes(one[:2], "big"): int.from_bytes(one[2:], "big") for one in entries}
    # SETTINGS_MAX_CONCURRENT_STREAMS is 3, SETTINGS_MAX_HEADER_LIST_SIZE is 6.
    assert (told[3], told[6]) == (7, 5_000)
