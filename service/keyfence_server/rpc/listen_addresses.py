"""Where the server listens: `127.0.0.1:50051`, `[::]:443`, `unix:/run/keyfence.sock`.

Hosts are addresses and not names, so that what is safe to serve without encryption
is known from the text alone, and stays so.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_UNIX: Final = "unix:"
# The kernel's limit for a socket's path, less the terminating zero byte.
_MAX_UNIX_PATH: Final = 107


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """An IP address and a port; port 0 lets the kernel choose."""

    host: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host.is_loopback

    def __str__(self) -> str:
        return (
            f"[{self.host}]:{self.port}" if self.host.version == 6 else f"{self.host}:{self.port}"
        )


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket in the file system."""

    path: Path

    def __str__(self) -> str:
        return f"{_UNIX}{self.path}"


ListenAddress = TcpAddress | UnixAddress


def parse_listen_addresses(text: str) -> tuple[ListenAddress, ...]:
    """Reads addresses that are separated by commas.

    Raises:
        ValueError: its message says what is wrong, and what to write instead.
    """
    parts = [part.strip() for part in text.split(",")]
    addresses = tuple(parse_listen_address(part) for part in parts if part)
    if not addresses:
        raise ValueError("at least one address is needed, for example 127.0.0.1:50051")
    # Each port 0 is another one.
    fixed = [one for one in addresses if isinstance(one, UnixAddress) or one.port]
    if len(set(fixed)) != len(fixed):
        raise ValueError("it has an address twice")
    return addresses


def parse_listen_address(text: str) -> ListenAddress:
    """Reads one address. Raises `ValueError`."""
    if text.startswith(_UNIX):
        return _unix(text.removeprefix(_UNIX))
    host, separator, port = text.rpartition(":")
    if not separator or not (port.isascii() and port.isdigit() and int(port) <= 65_535):
        raise ValueError(
            f'"{text}" is not HOST:PORT or unix:/PATH, for example 127.0.0.1:50051 or [::1]:50051'
        )
    if host == "localhost":
        host = "127.0.0.1"
    try:
        return TcpAddress(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")), int(port))
    except ValueError:
        raise ValueError(
            f'"{host}" is not an IP address; 0.0.0.0 or [::] listen on every interface'
        ) from None


def _unix(path: str) -> UnixAddress:
    # `unix:///run/x` is written as often as `unix:/run/x`.
    path = path.removeprefix("//")
    if not path.startswith("/"):
        raise ValueError(f'the socket\'s path "{path}" must start with "/"')
    if len(path.encode()) > _MAX_UNIX_PATH:
        raise ValueError(f"a socket's path has at most {_MAX_UNIX_PATH} bytes")
    return UnixAddress(Path(path))
