"""Attacks on a port: each over one connection, without a valid credential."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from testkit.raw_http2 import (
    ACK,
    CANCEL,
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

PATH: Final = b"/keyfence.v1.AuthorizationService/WhoAmI"
CALL: Final = grpc_headers(PATH, (b"authorization", b"Bearer x"))

Attack = Callable[[RawConnection], Awaitable[None]]


async def rapid_reset(connection: RawConnection) -> None:
    for first in range(1, 2**31, 200):
        await connection.send(_reset_calls(first, 100))


async def reset_and_reconnect(connection: RawConnection) -> None:
    """As much as the kernel takes at once. Then the attack goes on with the next connection."""
    for first in range(1, 40_000, 200):
        await connection.send(_reset_calls(first, 100))


async def paced_reset(connection: RawConnection, *, per_second: int) -> None:
    """As many calls a second, ten at a time, each reset at once."""
    began, sent = time.monotonic(), 0
    while True:
        await connection.send(_reset_calls(1 + 2 * sent, 10))
        sent += 10
        await asyncio.sleep(max(0, began + sent / per_second - time.monotonic()))


def _reset_calls(first: int, count: int) -> bytes:
    return b"".join(
        frame(HEADERS, END_HEADERS | END_STREAM, stream, CALL)
        + frame(RST_STREAM, 0, stream, CANCEL)
        for stream in range(first, first + 2 * count, 2)
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


async def unconfirmed_bombs(connection: RawConnection) -> None:
    """The same from a client that does not confirm the settings, and so is not bound by them."""
    await metadata_bombs(connection)


async def calls_without_end(connection: RawConnection) -> None:
    for stream in range(1, 20_000, 2):
        await connection.send(frame(HEADERS, END_HEADERS, stream, CALL))


async def made_up_credentials(connection: RawConnection) -> None:
    """Whole calls, a hundred at a time, whose answers are read."""
    for first in range(1, 2**31, 200):
        for stream in range(first, first + 200, 2):
            await connection.call(stream, CALL)
        for _ in range(100):
            await connection.receive_until(HEADERS)


async def headers_drop_by_drop(connection: RawConnection) -> None:
    """Calls whose headers begin and do not end, a byte at a time."""
    while True:
        await connection.send(frame(HEADERS, END_STREAM, 1, CALL[:40]))
        for byte in CALL[40:]:
            await connection.send(frame(CONTINUATION, 0, 1, bytes([byte])))
            await asyncio.sleep(0.01)


async def giant_messages(connection: RawConnection) -> None:
    for stream in range(1, 600, 2):
        await connection.call(stream, CALL, bytes(65_000))


ATTACKS: Final[tuple[Attack, ...]] = (
    rapid_reset,
    reset_and_reconnect,
    ping_flood,
    settings_flood,
    headers_without_end,
    metadata_bombs,
    unconfirmed_bombs,
    calls_without_end,
    giant_messages,
    made_up_credentials,
    headers_drop_by_drop,
)


@asynccontextmanager
async def attacked(
    port: int, attack: Attack, *, source: str = "127.0.0.1", patience: float = 5
) -> AsyncIterator[RawConnection]:
    """Attacks for a second, or until it is cut off. Yields the connection, still open.

    Args:
        source: the address that the attack comes from.
        patience: how many seconds it waits for the server to read, before it gives up.
    """
    connection = await RawConnection.open(port, source=source, patience=patience)
    try:
        await connection.receive_until(SETTINGS)
        if attack is not unconfirmed_bombs:
            await connection.send(frame(SETTINGS, ACK, 0))
        # Both ends are answers: the server closes the connection, or stops reading it.
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(1):
                await attack(connection)
        yield connection
    finally:
        connection.abort()
