"""What clients that mean no good do to a server: over one connection, and with no credential."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from support.raw_http2 import (
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


ATTACKS: Final[tuple[Attack, ...]] = (
    rapid_reset,
    ping_flood,
    settings_flood,
    headers_without_end,
    metadata_bombs,
    calls_without_end,
    giant_messages,
)
