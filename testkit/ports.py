"""Ports for servers that cannot pick one themselves."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A port of the loopback interface that no program listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
