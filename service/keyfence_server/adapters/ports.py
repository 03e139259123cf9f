"""Claims a TCP port, so that several processes of one server may share it and no other.

A kernel lets any process of the same user listen on a port that is shared by
`SO_REUSEPORT`, and gives it a share of the connections. So a port is claimed first, by
one process, as if it were not to be shared: any other process that tries that is refused, whether
it means to share or not.
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
    """A port that is ours until `release`, or to the end of the process. Nobody is
    listening on it yet.

    Attributes:
        number: which port; the kernel may have chosen it.
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
            # A port that the kernel chose may be gone a moment later; then another one is.
            if not attempts:
                raise PortTaken(os.strerror(error.errno or 0)) from None


def _claimed(host: IPv4Address | IPv6Address, number: int) -> socket.socket:
    claim = _new_socket(host)
    try:
        # Connections of a server before us that are still closing must not keep us away.
        claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        claim.bind((str(host), number))
        # Of two that have got so far at once, only one may listen.
        claim.listen(0)
        claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        # It keeps the port, and takes no connection any more.
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
