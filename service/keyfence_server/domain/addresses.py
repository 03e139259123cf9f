"""The addresses that a key may be used from: IPv4 and IPv6, single or as networks.

An IPv4 address that comes wrapped in IPv6 ("::ffff:192.0.2.1", RFC 4291 section
2.5.5.2) counts as the IPv4 address that it is, on both sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MAPPED_PREFIX = 96


def parse_network(text: str) -> Network:
    """Reads an address or a CIDR network.

    Raises:
        ValueError: it is neither, has a zone, or has bits set beyond its prefix; the
            message says which.
    """
    _require_no_zone(text)
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_PREFIX:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - _MAPPED_PREFIX))
    return network


@lru_cache(maxsize=4096)
def parse_address(text: str) -> Address:
    """Reads an address without a port or zone. Raises `ValueError`."""
    _require_no_zone(text)
    address = ip_address(text)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def find_address(text: str) -> Address | None:
    """The address that a text names; None if it names none."""
    try:
        return parse_address(text)
    except ValueError:
        return None


def _require_no_zone(text: str) -> None:
    # A zone has a meaning on one host only, so a record with one cannot be understood elsewhere.
    if "%" in text:
        raise ValueError(f"{text!r} has a zone; give the address without it")


def canonical_networks(texts: Iterable[str]) -> tuple[str, ...]:
    """The networks in their shortest form, sorted, without repetition. Raises `ValueError`."""
    networks = {parse_network(text) for text in texts}
    in_order = sorted(
        networks, key=lambda one: (one.version, int(one.network_address), one.prefixlen)
    )
    return tuple(map(str, in_order))


def is_within(address: Address, networks: Sequence[Network]) -> bool:
    """Whether one of the networks has the address."""
    return any(address in network for network in networks)


def are_within(inner: Iterable[Network], outer: Sequence[Network]) -> bool:
    """Whether each of the inner networks is a part of one of the outer ones."""
    return all(any(_is_subnet(network, candidate) for candidate in outer) for network in inner)


def _is_subnet(inner: Network, outer: Network) -> bool:
    if isinstance(inner, IPv4Network) and isinstance(outer, IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(inner, IPv6Network) and isinstance(outer, IPv6Network):
        return inner.subnet_of(outer)
    return False
