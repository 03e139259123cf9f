"""Requests over HTTP/2 that no library would send: a connection and one stream for each."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from hpack import Decoder

from testkit.raw_http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    frame,
    header_block,
)

Fields = Sequence[tuple[str, str]]

_STREAM = 1


def request(method: str, path: str, *more: tuple[str, str]) -> list[tuple[str, str]]:
    """The header fields of a request, in the order of a decent client."""
    head = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "x")]
    return [*head, *more]


def exchange(port: int, fields: Fields, body: bytes | None = None) -> int | None:
    """Sends these header fields as they are, and returns the status of the answer.

    Returns:
        None if there is none: the stream was reset, or the connection ended.
    """
    return _exchange(port, fields, body, b":status", "127.0.0.1")


def call(port: int, path: str, *metadata: tuple[str, str], source: str = "127.0.0.1") -> int | None:
    """Makes a call of gRPC with an empty message, from an address, and returns gRPC's status.

    Returns:
        None if there is none: the stream was reset, or the connection ended.
    """
    fields = request("POST", path, ("content-type", "application/grpc"), ("te", "trailers"))
    return _exchange(port, [*fields, *metadata], bytes(5), b"grpc-status", source)


def _exchange(
    port: int, fields: Fields, body: bytes | None, wanted: bytes, source: str
) -> int | None:
    block = header_block([(name.encode(), value.encode()) for name, value in fields])
    flags = END_HEADERS | (END_STREAM if body is None else 0)
    sent = PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, flags, _STREAM, block)
    if body is not None:
        sent += frame(DATA, END_STREAM, _STREAM, body)
    address = ("127.0.0.1", port)
    with socket.create_connection(address, timeout=10, source_address=(source, 0)) as connection:
        try:
            connection.sendall(sent)
            return _first(connection, wanted)
        except ConnectionError:
            return None


def exchange_all(port: int, heads: Sequence[Fields]) -> list[int | None]:
    """Sends requests without a body side by side: Envoy ends the connection of one that is
    no HTTP/2 a second later."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda fields: exchange(port, fields), heads))


def _first(connection: socket.socket, wanted: bytes) -> int | None:
    decoder = Decoder()
    while head := _exactly(connection, 9):
        payload = _exactly(connection, int.from_bytes(head[:3], "big"))
        kind, stream = head[3], int.from_bytes(head[5:], "big")
        if kind == HEADERS:
            found = dict(decoder.decode(payload, raw=True)).get(wanted)
            if found is not None:
                return int(found)
        if kind == GOAWAY or (kind == RST_STREAM and stream == _STREAM):
            return None
    return None


def _exactly(connection: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length and (more := connection.recv(length - len(received))):
        received += more
    return received
