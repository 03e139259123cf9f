"""Where a client of the edge is: told by whom the operator trusts, and never by the client."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pytest

from support.edge.authority import Authority
from support.edge.configuration import connection_manager, edge_config, ext_authz
from support.edge.envoy import StartEnvoy
from support.edge.http import bearer, send
from support.edge.upstream import Upstream

CLIENT, OTHER = "203.0.113.7", "198.51.100.9"
SAID_BY_THE_CLIENT = (
    ("X-Forwarded-For", OTHER),
    ("X-Real-IP", OTHER),
    ("Forwarded", f"for={OTHER}"),
    ("X-Envoy-External-Address", OTHER),
    ("X-Keyfence-Client-Address", OTHER),
)


def forwarded(address: str) -> list[tuple[str, str]]:
    """What a proxy adds to the request of a client at this address."""
    return [("X-Forwarded-For", address)]


@dataclass(frozen=True)
class Edge:
    """The example's Envoy, with so many trusted proxies before it."""

    authority: Authority
    port: int

    def asks(self, api_key: str, *headers: tuple[str, str]) -> int:
        """The status of a request that comes with this key and these headers."""
        return send(self.port, "GET", "/api/v1/instances", [bearer(api_key), *headers]).status


@pytest.fixture(scope="module")
def edges(authority: Authority, shared_upstream: Upstream, start_envoy: StartEnvoy) -> list[Edge]:
    """By the number of proxies that are trusted: none, and one."""
    edges = []
    for hops in (0, 1):
        config = edge_config(keyfence_port=authority.port, upstream_port=shared_upstream.port)
        connection_manager(config)["xff_num_trusted_hops"] = hops
        envoy = start_envoy(config, authority.edge_token("quicksrv"))
        edges.append(Edge(authority, envoy.ports["edge"]))
    return edges


def last_used_address(authority: Authority, key_id: str) -> str | None:
    """Where a key was last used, once that is written down."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        key = authority.operator.get_key(key_id)
        if key.last_used_time is not None:
            return key.last_used_address
        time.sleep(0.02)
    raise AssertionError("no use is written down")


@pytest.mark.parametrize(
    ("hops", "from_proxy", "seen"),
    [
        (0, [], "127.0.0.1"),
        (0, forwarded(CLIENT), "127.0.0.1"),
        (1, forwarded(CLIENT), CLIENT),
        # The proxy has put the client's address behind what the client had sent.
        (1, forwarded(f"{OTHER}, {CLIENT}"), CLIENT),
        (1, [("X-Forwarded-For", OTHER), ("X-Forwarded-For", CLIENT)], CLIENT),
        (1, forwarded("2001:db8::7"), "2001:db8::7"),
        # Past the proxy, or by one that says nothing.
        (1, [], "127.0.0.1"),
    ],
)
def test_the_clients_address_is_what_envoy_has_worked_out(
    edges: list[Edge], hops: int, from_proxy: list[tuple[str, str]], seen: str
) -> None:
    """In allow-lists, in a key's last use and in the audit log alike."""
    edge, authority = edges[hops], edges[hops].authority
    fields: dict[str, Any] = {"keyspace": "quicksrv", "account_id": "a", "scopes": ["vps:read"]}
    here = authority.operator.create_key(**fields, allowed_addresses=[seen])
    elsewhere = authority.operator.create_key(
        **fields, allowed_addresses=sorted({"127.0.0.1", CLIENT, OTHER, "2001:db8::7"} - {seen})
    )

    assert edge.asks(here.api_key, *from_proxy) == 200
    assert edge.asks(elsewhere.api_key, *from_proxy) == 401

    assert last_used_address(authority, here.key.key_id) == seen
    (denied,) = authority.denials_of(elsewhere.key.key_id, 1)
    assert denied.details["address"] == seen


@pytest.mark.parametrize("hops", [0, 1])
@pytest.mark.parametrize("said", SAID_BY_THE_CLIENT, ids=lambda header: str(header[0]))
def test_a_client_does_not_say_where_it_is(
    edges: list[Edge], hops: int, said: tuple[str, str]
) -> None:
    """By no header that some program or other goes by, nor by our own."""
    name, value = said
    proxy = forwarded(CLIENT) if hops else []
    if name == "X-Forwarded-For" and hops:
        said, proxy = (name, f"{value}, {CLIENT}"), []
    key = edges[hops].authority.make_key("quicksrv", "vps:read", allowed_addresses=[OTHER])

    assert edges[hops].asks(key, said, *proxy) == 401


def test_an_edge_that_does_not_say_where_its_clients_are_is_asked_by_its_connections(
    authority: Authority, upstream: Upstream, start_envoy: StartEnvoy
) -> None:
    """What a client says counts no more there than elsewhere."""
    config = edge_config(keyfence_port=authority.port, upstream_port=upstream.port)
    del ext_authz(config)["grpc_service"]["initial_metadata"][1]
    edge = Edge(authority, start_envoy(config, authority.edge_token("quicksrv")).ports["edge"])
    here = authority.make_key("quicksrv", "vps:read", allowed_addresses=["127.0.0.1"])
    elsewhere = authority.make_key("quicksrv", "vps:read", allowed_addresses=[OTHER])

    for said in SAID_BY_THE_CLIENT:
        assert edge.asks(here, said) == 200
        assert edge.asks(elsewhere, said) == 401
