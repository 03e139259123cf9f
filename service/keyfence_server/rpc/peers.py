"""Where a call came from, out of what gRPC says of it."""

from __future__ import annotations

from urllib.parse import unquote


def peer_address(peer: str) -> str:
    """The address in "ipv4:192.0.2.1:4711" or "ipv6:%5B::1%5D:4711"; empty for others."""
    family, _, rest = peer.partition(":")
    if family not in {"ipv4", "ipv6"}:
        return ""
    host, _, _ = unquote(rest).rpartition(":")
    return host.removeprefix("[").removesuffix("]")
