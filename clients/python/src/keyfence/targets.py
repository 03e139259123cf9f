"""What a target names, and whether it stays on this machine.

Secrets may travel unencrypted only where no network can read them: over a Unix socket
and over the loopback interface. Whatever cannot be shown to be one of these is taken
for a network.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from keyfence.errors import ConfigurationError

_SOCKETS: Final = ("unix", "unix-abstract")
_RESOLVERS: Final = ("dns", "ipv4", "ipv6")
_URL_SCHEMES: Final = ("http", "https", "grpc", "grpcs")
_SHORTEST_TOKEN: Final = 22


def is_local(target: str) -> bool:
    """Whether everything sent to the target stays on this machine.

    Args:
        target: in gRPC's own syntax: "host:port", "[address]:port", "unix:/path",
            "dns:///host:port", "ipv4:address:port", ...

    Raises:
        ConfigurationError: it is not a target, or leaves the port open.
    """
    if not target or any(character.isspace() for character in target):
        raise ConfigurationError(f"{_shown(target)} is not a target")
    scheme, separator, rest = target.partition(":")
    if scheme in _SOCKETS:
        if not rest:
            raise ConfigurationError(f"target {target!r} names no socket")
        return True
    if scheme in _URL_SCHEMES and rest.startswith("//"):
        raise ConfigurationError(
            f"target {target!r} is a URL: give host:port; whether TLS is used is decided "
            "by `tls` and `insecure_plaintext`"
        )
    if scheme in _RESOLVERS and separator:
        # "dns://resolver/host:port": what stands behind the authority is the name.
        addresses = rest.removeprefix("//").partition("/")[2] if rest[:2] == "//" else rest
        return all(_is_loopback(target, address) for address in addresses.split(","))
    if rest.startswith("//"):
        return False  # another resolver, for example "xds:///service": a network
    return _is_loopback(target, target)


def _is_loopback(target: str, address: str) -> bool:
    host, separator, port = address.rpartition(":")
    is_complete = separator and host and "/" not in address and port.isascii() and port.isdigit()
    bare_ipv6 = ":" in host and not (host.startswith("[") and host.endswith("]"))
    if not is_complete or bare_ipv6:
        raise ConfigurationError(
            f"target {_shown(target)} must name host and port, for example "
            '"keyfence.example:443", "[::1]:50051" or "unix:/run/keyfence.sock"'
        )
    host = host.strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # RFC 6761, section 6.3: this name is the loopback interface, wherever it is asked.
        return host.lower() == "localhost"


def _shown(target: str) -> str:
    """The target, unless it may be a token that was given in its place."""
    return repr(target) if ":" in target or len(target) < _SHORTEST_TOKEN else "(not shown)"
