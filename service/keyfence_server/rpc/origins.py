"""The address that a call came from: the peer's, or the one that a trusted proxy reports.

Any client can send an `x-forwarded-for`. So it counts only from a peer that the server was told to
trust, and only the last entries, which trusted proxies have written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from keyfence_server.domain.addresses import (
    Address,
    Network,
    find_address,
    is_within,
    parse_network,
)

HEADER: Final = "x-forwarded-for"
UNIX: Final = "unix"

_WITH_PORT: Final = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<four>[0-9.]+))(?::[0-9]{1,5})?")
_TCP_PEER: Final = re.compile(r"ipv[46]:(?:\[(?P<six>[^\]]+)\]|(?P<four>[^:]+)):[0-9]+")


@dataclass(frozen=True, slots=True)
class Origins:
    """Finds out where calls came from.

    Attributes:
        trusted_networks: the addresses of trusted proxies.
        trusts_unix: whether peers on a Unix socket are trusted too.
    """

    trusted_networks: Sequence[Network] = ()
    trusts_unix: bool = False

    @classmethod
    def trusting(cls, proxies: Iterable[str]) -> Origins:
        """Trusts these networks and addresses; "unix" stands for the Unix sockets.

        Raises:
            ValueError: one of them is none.
        """
        named = tuple(proxies)
        networks = tuple(parse_network(text) for text in named if text != UNIX)
        return cls(networks, UNIX in named)

    def address_of(self, peer: str, metadata: Iterable[tuple[str, str | bytes]]) -> str:
        """The address that a call came from; empty where there is none.

        Args:
            peer: in gRPC's words, for example "ipv4:192.0.2.1:50123" or "unix:".
        """
        address, text = _connected(peer)
        if not self.trusts(address):
            return text
        for text in reversed(_forwarded(metadata)):
            forwarded = find_address(_without_port(text))
            if forwarded is None:
                # Nothing before it can be told from what a client made up. The proxy stands
                # for all of its clients that cannot be told apart.
                break
            address = forwarded
            if not self.trusts(address):
                break
        return str(address) if address is not None else ""

    def trusts(self, address: Address | None) -> bool:
        """Whether the word of this peer counts; None stands for one on a Unix socket."""
        if address is None:
            return self.trusts_unix
        return is_within(address, self.trusted_networks)


@lru_cache(maxsize=4_096)
def _connected(peer: str) -> tuple[Address | None, str]:
    """The address of a peer in gRPC's words, and as text: a connection has many calls."""
    found = _TCP_PEER.fullmatch(unquote(peer))
    # A link-local peer comes with the zone of our own interface.
    text = (found["six"] or found["four"]).partition("%")[0] if found is not None else ""
    address = find_address(text)
    return address, str(address) if address is not None else ""


def _without_port(text: str) -> str:
    """An address as some proxies write it, "192.0.2.1:5000" or "[2001:db8::1]:443", without
    the port."""
    found = _WITH_PORT.fullmatch(text)
    return (found["six"] or found["four"]) if found is not None else text


def _forwarded(metadata: Iterable[tuple[str, str | bytes]]) -> list[str]:
    lines = [value for name, value in metadata if name == HEADER and isinstance(value, str)]
    return [part.strip() for line in lines for part in line.split(",")]
