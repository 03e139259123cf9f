"""What the kernel is asked to do with sockets that gRPC holds and does not hand out.

gRPC can neither close a connection nor refuse those of one address, and once bytes have
arrived, its threads work them off. So the kernel is told to drop what comes, by a filter on the
socket, as packet captures have them (`SO_ATTACH_FILTER`, socket(7)): that costs nothing
more, and needs no privilege. Where there are no such filters, outside of Linux, connections
are closed, and no address is slowed down.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
import sys
from array import array
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Network
from pathlib import Path
from typing import Final, TypeAlias

from keyfence_server.domain.addresses import Address, parse_address
from keyfence_server.rpc.origins import Peer

MAX_SLOWED: Final = 32
"""So many sources can be slowed down at the same time: older kernels have by default no room
for filters of more than some 40, and each connection has its own."""

HAS_FILTERS: Final = sys.platform == "linux"

_FDS: Final = Path("/dev/fd")
_TCP: Final = (socket.AF_INET, socket.AF_INET6)
_ATTACH_FILTER, _DETACH_FILTER = 26, 27
_AT_A_TIME: Final = 100
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


@dataclass(slots=True)
class Measures:
    """What is to be done.

    Attributes:
        silence: nothing more from these is to arrive, and what has arrived is forgotten. They
            are not told: they go on sending until their own buffers are full.
        close: the connections with these end, and they are told.
        slow: from these few attempts to connect get through, one in so many, which is a
            power of two; all of any others do. Whoever does not get through tries again
            after a second, and then ever more seldom. At the most `MAX_SLOWED`; None: it
            stays as it is.
    """

    silence: set[Peer] = field(default_factory=set)
    close: set[Peer] = field(default_factory=set)
    slow: Mapping[Source, int] | None = None

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.silence or self.close or self.slow is not None)


async def carry_out(measures: Measures, ports: Collection[int]) -> None:
    """Does it to this process's sockets on these ports.

    What cannot be done is left: the connection is gone, or the process has no file left to
    look for it with.
    """
    program = None if measures.slow is None else _slowing(measures.slow)
    for index, descriptor in enumerate(_descriptors()):
        if index % _AT_A_TIME == _AT_A_TIME - 1:
            # There may be thousands.
            await asyncio.sleep(0)
        opened = _socket_of(descriptor)
        if opened is not None:
            with opened, suppress(OSError):
                if opened.family in _TCP and opened.getsockname()[1] in ports:
                    _carry_out(measures, program, opened)


def _carry_out(measures: Measures, program: list[bytes] | None, to: socket.socket) -> None:
    if to.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        if program is not None and HAS_FILTERS:
            _attach(to, program)
        return
    host, port = to.getpeername()[:2]
    peer = Peer(parse_address(host.partition("%")[0]), port)
    if peer in measures.close:
        _close(to)
    elif peer in measures.silence:
        _silence(to)


def _silence(connection: socket.socket) -> None:
    if not HAS_FILTERS:
        _close(connection)
        return
    _attach(connection, [_instruction(_RETURN)])
    _forget(connection)


def _close(connection: socket.socket) -> None:
    if HAS_FILTERS:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)
    connection.shutdown(socket.SHUT_RDWR)
    _forget(connection)


def _descriptors() -> list[int]:
    try:
        return [int(path.name) for path in _FDS.iterdir()]
    except OSError:
        return []


def _socket_of(descriptor: int) -> socket.socket | None:
    """The socket, by a duplicate; None for what is none.

    Nothing else may be duplicated. Whoever closes any descriptor of a file gives up all the
    locks that the process has on it (fcntl(2)), and SQLite's are such.
    """
    try:
        if not _is_socket(descriptor):
            return None
        duplicate = os.dup(descriptor)
    except OSError:
        return None
    if not _is_socket(duplicate):
        # In between, the number has become that of a file, which has to stay open for that.
        return None
    return socket.socket(fileno=duplicate)


def _is_socket(descriptor: int) -> bool:
    return stat.S_ISSOCK(os.fstat(descriptor).st_mode)


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


def _slowing(one_in_by_source: Mapping[Source, int]) -> list[bytes]:
    of_four, of_six = [], []
    for source, one_in in one_in_by_source.items():
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
