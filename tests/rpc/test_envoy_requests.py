"""What is taken of an Envoy's question besides its headers."""

from __future__ import annotations

import pytest
from envoy.service.auth.v3 import external_auth_pb2

from keyfence_server.rpc.envoy.requests import CLIENT_ADDRESS, client_address_of


@pytest.mark.parametrize(
    ("told", "address"),
    [
        ([], "192.0.2.1"),
        (["203.0.113.7"], "203.0.113.7"),
        (["::ffff:203.0.113.7"], "203.0.113.7"),
        (["2001:db8::7"], "2001:db8::7"),
        (["/run/edge.sock"], ""),
        (["-"], ""),
        ([""], ""),
        (["203.0.113.7:443"], ""),
        (["203.0.113.7", "203.0.113.7"], ""),
    ],
)
def test_what_is_told_and_is_no_address_counts_as_unknown(told: list[str], address: str) -> None:
    """And not as the connection's, which an allow-list may let through."""
    request = external_auth_pb2.CheckRequest()
    request.attributes.source.address.socket_address.address = "192.0.2.1"
    metadata = [("authorization", "Bearer kfop_x"), *((CLIENT_ADDRESS, one) for one in told)]
    assert client_address_of(request.attributes, metadata) == address
