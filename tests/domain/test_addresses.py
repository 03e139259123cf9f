"""Addresses and networks that keys may be used from."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.graphs import brief
from keyfence_server.domain.addresses import (
    are_within,
    canonical_networks,
    is_within,
    parse_address,
    parse_network,
)

v4 = st.integers(0, 2**32 - 1).map(IPv4Address)
v6 = st.integers(0, 2**128 - 1).map(IPv6Address)


@st.composite
def networks(draw: st.DrawFn) -> str:
    """A network of either kind, as text."""
    if draw(st.booleans()):
        return str(IPv4Network((draw(v4), draw(st.integers(0, 32))), strict=False))
    return str(IPv6Network((draw(v6), draw(st.integers(0, 128))), strict=False))


@brief
@given(v4)
def test_an_ipv4_address_wrapped_in_ipv6_is_the_address_that_it_is(address: IPv4Address) -> None:
    """A proxy that listens on IPv6 would otherwise slip past, or be shut out by, an IPv4 list."""
    wrapped = f"::ffff:{address}"
    assert parse_address(wrapped) == parse_address(str(address)) == address
    assert parse_network(wrapped) == parse_network(str(address))
    assert is_within(parse_address(wrapped), [parse_network(f"{address}/32")])
    assert is_within(address, [parse_network(f"{wrapped}/128")])
    assert not is_within(address, [parse_network("::/0")])


@brief
@given(st.lists(networks(), max_size=6))
def test_the_canonical_form_is_sorted_and_stable_and_means_the_same(texts: list[str]) -> None:
    canonical = canonical_networks(texts)
    assert canonical_networks(reversed(canonical)) == canonical
    assert {parse_network(text) for text in texts} == {parse_network(text) for text in canonical}
    assert len(set(canonical)) == len(canonical)


@brief
@given(networks(), networks(), v4, v6)
def test_what_is_within_admits_nothing_that_the_outer_one_does_not(
    one: str, other: str, four: IPv4Address, six: IPv6Address
) -> None:
    inner, outer = parse_network(one), parse_network(other)
    if not are_within([inner], [outer]):
        return
    assert inner.network_address in outer
    assert inner.broadcast_address in outer
    for address in (four, six):
        assert not is_within(address, [inner]) or is_within(address, [outer])


def test_within_needs_each_inner_network_and_never_mixes_the_versions() -> None:
    ten, six = parse_network("10.0.0.0/8"), parse_network("2001:db8::/32")
    assert are_within([parse_network("10.1.0.0/16"), parse_network("2001:db8:1::/48")], [ten, six])
    assert not are_within([parse_network("10.1.0.0/16"), parse_network("11.0.0.0/16")], [ten, six])
    assert not are_within([ten], [parse_network("::/0")])
    assert not are_within([parse_network("0.0.0.0/0")], [ten])
    assert are_within([], [ten])


@pytest.mark.parametrize(
    "text",
    ["", "10.0.0.1/8", "10.0.0", "10.0.0.0/33", "fe80::1%eth0", "fe80::%1/64", "0x7f.0.0.1",
     "example.com", "10.0.0.0/8/8", "٣.0.0.1"],
)  # fmt: skip
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_network(text)


@pytest.mark.parametrize(
    "text", ["", "10.0.0.1:443", "[::1]", "fe80::1%eth0", "10.0.0.0/8", "localhost", "010.0.0.1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_address(text)
