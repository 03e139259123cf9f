"""What the kernel is asked to do with sockets that gRPC holds and does not hand out.

gRPC can neither close a connection nor refuse those of one address, and once bytes have
arrived, its threads work them off. So the kernel is told to drop what comes, by a filter on the
socket, as packet captures have them (`SO_ATTACH_FILTER`, socket(7)): that costs nothing
more, and needs no privilege. Where there are no such filters, outside of Linux, connections
are closed, and no address is slowed down.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Network
from pathlib import Path
from typing import Final, TypeAlias

from keyfence_server.domain.addresses import Address, parse_address
from keyfence_server.rpc.origins import Peer

MAX_SLOWED: Final = 256
"""More addresses than these are not slowed down at the same time."""

HAS_FILTERS: Final = sys.platform == "linux"

_FDS: Final = Path("/dev/fd")
_ATTACH_FILTER, _DETACH_FILTER = 26, 27
_DISCARDED_BYTES: Final = 64 * 1024 * 1024

# Classic BPF (linux/filter.h). Offsets are from the TCP header; from `_IP` on, the IP header.
_LOAD_WORD, _LOAD_BYTE = 0x20, 0x30
_AND, _SHIFT_RIGHT = 0x54, 0x74
_JUMP, _JUMP_EQUAL = 0x05, 0x15
_RETURN: Final = 0x06
_IP: Final = 0xFFF00000
_RANDOM: Final = 0xFFFFF000 + 56
_TCP_FLAGS: Final = 13
_SYN, _ACK = 0x02, 0x10
_IPV4_SOURCE, _IPV6_SOURCE = 12, 8
_KEEP: Final = 0xFFFFFFFF
_IPV6_PREFIX: Final = 64


Source: TypeAlias = "IPv4Address | IPv6Network"
"""What is slowed down as one: of IPv6, the network of 64 bits that one customer has."""


def source_of(address: Address) -> Source:
    """What an address is slowed down with."""
    if isinstance(address, IPv4Address):
        return address
    return IPv6Network((address, _IPV6_PREFIX), strict=False)


def silence(peer: Peer) -> None:
    """Has nothing more from this peer arrive, and what has arrived forgotten.

    The peer is not told: it goes on sending until what is on its way fills its own buffers.
    """
    for connection in _connections_of(peer):
        with suppress(OSError):
            if HAS_FILTERS:
                _attach(connection, [_instruction(_RETURN)])
            else:
                connection.shutdown(socket.SHUT_RDWR)
        _forget(connection)


def cut(peer: Peer) -> None:
    """Closes the connection with this peer, which is told so."""
    for connection in _connections_of(peer):
        if HAS_FILTERS:
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        _forget(connection)


def slow(one_in_by_source: Mapping[Source, int]) -> None:
    """Lets few attempts of these sources through to connect to this process.

    Whoever is not let through tries again after a second, and then ever more seldom. Sources
    that were slowed down before, and are not among these, are as any other again.

    Args:
        one_in_by_source: which share of each: one in so many, a power of two.
    """
    if not HAS_FILTERS:
        return
    program = _slowing([*one_in_by_source.items()][-MAX_SLOWED:])
    for opened in _tcp_sockets():
        with suppress(OSError):
            if opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                _attach(opened, program)


def _connections_of(peer: Peer) -> Iterator[socket.socket]:
    for opened in _tcp_sockets():
        with suppress(OSError):
            host, port = opened.getpeername()[:2]
            if port == peer.port and parse_address(host.partition("%")[0]) == peer.address:
                yield opened


def _tcp_sockets() -> Iterator[socket.socket]:
    """This process's TCP sockets. Each is a duplicate, closed when the next one is asked for."""
    for path in _FDS.iterdir():
        try:
            fd = os.dup(int(path.name))
        except OSError:
            # Closed meanwhile, as the one is that the list was read with.
            continue
        try:
            opened = socket.socket(fileno=fd)
        except OSError:
            os.close(fd)
            continue
        with opened:
            if opened.type == socket.SOCK_STREAM and opened.family in (
                socket.AF_INET,
                socket.AF_INET6,
            ):
                yield opened


def _forget(connection: socket.socket) -> None:
    """Takes what has arrived, in the place of gRPC's threads."""
    taken = 0
    with suppress(OSError):
        while taken < _DISCARDED_BYTES:
            size = len(connection.recv(1 << 20, socket.MSG_DONTWAIT | socket.MSG_TRUNC))
            if not size:
                return
            taken += size


def _attach(to: socket.socket, program: list[bytes]) -> None:
    code = array("B", b"".join(program))
    address, _ = code.buffer_info()
    to.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("@HP", len(program), address))


def _slowing(slowed: Iterable[tuple[Source, int]]) -> list[bytes]:
    of_four, of_six = [], []
    for source, one_in in slowed:
        if isinstance(source, IPv4Address):
            of_four += _let_through(one_in, _IPV4_SOURCE, source.packed)
        else:
            of_six += _let_through(one_in, _IPV6_SOURCE, source.network_address.packed[:8])
    keep = _instruction(_RETURN, _KEEP)
    return [
        # Connections inherit the filter, and all else that they are sent is kept.
        _instruction(_LOAD_BYTE, _TCP_FLAGS),
        _instruction(_AND, _SYN | _ACK),
        _instruction(_JUMP_EQUAL, _SYN, if_so=1),
        keep,
        _instruction(_LOAD_BYTE, _IP),
        _instruction(_SHIFT_RIGHT, 4),
        _instruction(_JUMP_EQUAL, 4, if_not=1),
        _instruction(_JUMP, len(of_six) + 1),
        *of_six,
        keep,
        *of_four,
        keep,
    ]


def _let_through(one_in: int, at: int, octets: bytes) -> list[bytes]:
    """Ends with that share of the packets whose IP header has these octets there."""
    ending = [
        _instruction(_LOAD_WORD, _RANDOM),
        _instruction(_AND, one_in - 1),
        _instruction(_JUMP_EQUAL, 0, if_not=1),
        _instruction(_RETURN, _KEEP),
        _instruction(_RETURN),
    ]
    words = struct.unpack(f">{len(octets) // 4}I", octets)
    program: list[bytes] = []
    for index, word in enumerate(words):
        rest = 2 * (len(words) - index - 1) + len(ending)
        program += [
            _instruction(_LOAD_WORD, _IP + at + 4 * index),
            _instruction(_JUMP_EQUAL, word, if_not=rest),
        ]
    return [*program, *ending]


def _instruction(code: int, value: int = 0, *, if_so: int = 0, if_not: int = 0) -> bytes:
    return struct.pack("@HBBI", code, if_so, if_not, value)
