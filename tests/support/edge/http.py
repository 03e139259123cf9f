"""A plain HTTP client: what it is told to send, it sends, sensible or not."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of a header, which must not be there twice."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, values
        return values[0] if values else None

    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


def send(
    port: int,
    method: str = "GET",
    path: str = "/",
    headers: Headers = (),
    body: bytes = b"",
    *,
    timeout: float = 30,
) -> Answer:
    """Sends a request, its headers in order and as often as given."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        if body:
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return Answer(response.status, tuple(response.getheaders()), response.read())
    finally:
        connection.close()


def bearer(api_key: str) -> tuple[str, str]:
    """The header that most clients send."""
    return ("Authorization", f"Bearer {api_key}")


def send_raw(port: int, raw: bytes, *, silence: float = 5) -> bytes:
    """Sends bytes, and returns all that comes back until the connection ends or is silent.

    Args:
        silence: how many seconds without a byte are the end.
    """
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=silence) as connection:
        try:
            connection.sendall(raw)
            while chunk := connection.recv(65_536):
                received += chunk
                if _is_last_answer(received):
                    break
        except (ConnectionError, TimeoutError):
            pass
    return received


def _is_last_answer(received: bytes) -> bool:
    """Whether an answer has come whole, behind which Envoy ends the connection. It waits a
    second for its client to do so, which a test with many requests need not."""
    head, end, body = received.rpartition(b"\r\n\r\n")
    fields = head.lower().rpartition(b"http/1.1 ")[2].split(b"\r\n")
    lengths = [int(one[15:]) for one in fields if one.startswith(b"content-length:")]
    return bool(end) and b"connection: close" in fields and lengths == [len(body)]
