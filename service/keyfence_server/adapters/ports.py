"""Claims a TCP port for the workers of one server, and for no other server.

The kernel lets any process of the same user listen on a port that is shared by
`SO_REUSEPORT`, and gives that process a share of the connections. So the parent first
claims the port without sharing it. A second server that claims the same port is refused.
"""

from __future__ import annotations

import os
import socket
from ipaddress import IPv4Address, IPv6Address
from typing import Final

_ATTEMPTS: Final = 20


class PortTaken(Exception):
    """Another process has the port, or it cannot be claimed."""


class ClaimedPort:
    """A port that this process owns until `release` or its end. No socket listens on it yet.

    Attributes:
        number: the port; the kernel may have chosen it.
    """

    def __init__(self, number: int, claim: socket.socket) -> None:
        self.number = number
        self._claim = claim

    def release(self) -> None:
        """Gives the port back."""
        self._claim.close()


def claim_port(host: IPv4Address | IPv6Address, number: int) -> ClaimedPort:
    """Claims a port; 0 lets the kernel choose. Raises `PortTaken`."""
    attempts = 1 if number else _ATTEMPTS
    while True:
        attempts -= 1
        try:
            port = number or _any_port(host)
            return ClaimedPort(port, _claimed(host, port))
        except OSError as error:
            # Another process may take the port that the kernel chose; then try another port.
            if not attempts:
                raise PortTaken(os.strerror(error.errno or 0)) from None


def _claimed(host: IPv4Address | IPv6Address, number: int) -> socket.socket:
    claim = _new_socket(host)
    try:
        # Closing connections of an earlier server must not prevent the claim.
        claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        claim.bind((str(host), number))
        # If two processes have bound the port at the same time, only one of them may listen.
        claim.listen(0)
        claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        # The socket keeps the port, and accepts no connections.
        claim.shutdown(socket.SHUT_RDWR)
    except OSError:
        claim.close()
        raise
    return claim


def _any_port(host: IPv4Address | IPv6Address) -> int:
    with _new_socket(host) as probe:
        probe.bind((str(host), 0))
        port: int = probe.getsockname()[1]
        return port


def _new_socket(host: IPv4Address | IPv6Address) -> socket.socket:
    return socket.socket(socket.AF_INET6 if host.version == 6 else socket.AF_INET)
