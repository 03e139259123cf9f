"""quicksrv, as its page describes it, through the example of deploy/envoy as it stands."""

from __future__ import annotations

import pytest

from support.edge.authority import Authority
from support.edge.configuration import edge_config
from support.edge.envoy import Envoy
from support.edge.http import bearer, send
from support.edge.upstream import Upstream


@pytest.fixture(scope="module")
def port(authority: Authority, shared_upstream: Upstream, start_envoy):
    config = edge_config(keyfence_port=authority.port, upstream_port=shared_upstream.port)
    envoy = start_envoy(config, {"KEYFENCE_EDGE_TOKEN": authority.edge_token("quicksrv")})
    return envoy.ports["edge"]


def test_a_key_as_a_bearer_token_gets_through(authority, upstream, port) -> None:
    key = authority.make_key("quicksrv", "vps:read")
    answer = send(port, "GET", "/api/v1/instances", [bearer(key)])
    print(answer, upstream.arrived)
    assert answer.status == 200
    answer = send(port, "POST", "/api/v1/instances", [bearer(key)])
    print(answer)
    answer = send(port, "GET", "/api/v1/instances", [])
    print(answer)
    answer = send(port, "GET", "/api/v1/instances", [bearer(key),("X-Keyfence-Key-Id","a"),("X-Keyfence-Key-Id","b"),("x-keyfence-foo","c"),("x-api-key",key), ("cookie", "a=b")])
    print(answer, upstream.arrived[-1])
