"""HTTP/2 by hand, for what no well-behaved client would send.

Frames and header blocks as in RFC 9113 and RFC 7541, without Huffman coding and
without the dynamic table.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7
CONTINUATION: Final = 0x9
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
ENHANCE_YOUR_CALM: Final = 0xB
REFUSED_STREAM: Final = (0x7).to_bytes(4, "big")
CANCEL: Final = (0x8).to_bytes(4, "big")
_MAX_FRAME: Final = 16_384


@dataclass(frozen=True)
class Frame:
    """One frame as received."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame as sent."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header_frames(stream: int, flags: int, block: bytes) -> bytes:
    """A header block in as many frames as it takes."""
    pieces = [block[at : at + _MAX_FRAME] for at in range(0, len(block), _MAX_FRAME)]
    kinds = [HEADERS, *(CONTINUATION for _ in pieces[1:])]
    ends = [*(0 for _ in pieces[1:]), END_HEADERS]
    return b"".join(
        frame(kind, end | (flags if kind == HEADERS else 0), stream, piece)
        for kind, end, piece in zip(kinds, ends, pieces, strict=True)
    )


def header_block(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Literal header fields that are never indexed."""
    return b"".join(b"\x10" + _text(name) + _text(value) for name, value in headers)


def grpc_headers(path: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """The headers of a gRPC call."""
    return header_block(
        [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path),
            (b":authority", b"localhost"),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            *more,
        ]
    )


def _text(text: bytes) -> bytes:
    length = len(text)
    if length < 127:
        return bytes([length]) + text
    rest = length - 127
    encoded = bytearray([127])
    while rest >= 128:
        encoded.append(rest % 128 | 128)
        rest //= 128
    encoded.append(rest)
    return bytes(encoded) + text


class RawConnection:
    """A connection that says exactly what it is told to say."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience: float
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._patience = patience

    @classmethod
    async def open(
        cls, port: int, *, source: str = "127.0.0.1", patience: float = 5
    ) -> RawConnection:
        """Connects from an address of this host, and says its settings.

        Args:
            patience: for how many seconds to wait to be let in, and for what is sent to be read.
        """
        async with asyncio.timeout(patience):
            ends = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        connection = cls(*ends, patience)
        await connection.send(PREFACE + frame(SETTINGS, 0, 0))
        return connection

    async def send(self, data: bytes) -> None:
        """Sends bytes. Raises `TimeoutError` if they are not read."""
        self._writer.write(data)
        async with asyncio.timeout(self._patience):
            await self._writer.drain()

    async def call(self, stream: int, headers: bytes, message: bytes = b"") -> None:
        """Sends a whole unary call."""
        body = b"\x00" + struct.pack(">I", len(message)) + message
        await self.send(header_frames(stream, 0, headers) + frame(DATA, END_STREAM, stream, body))

    async def receive(self, timeout_seconds: float = 5) -> Frame | None:
        """The next frame; None when the server has closed the connection."""
        try:
            async with asyncio.timeout(timeout_seconds):
                head = await self._reader.readexactly(9)
                length = int.from_bytes(head[:3], "big")
                payload = await self._reader.readexactly(length) if length else b""
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        return Frame(kind, flags, stream, payload)

    async def receive_until(self, kind: int, *, timeout_seconds: float = 5) -> Frame | None:
        """The next frame of a kind, the ones before it left out; None if none comes."""
        async with asyncio.timeout(timeout_seconds):
            while (received := await self.receive(timeout_seconds)) is not None:
                if received.kind == kind:
                    return received
        return None

    async def close(self) -> None:
        """Closes the connection."""
        self._writer.close()

    def abort(self) -> None:
        """Closes the connection at once, whatever is still to be sent."""
        self._writer.transport.abort()
