"""When nothing can be decided, no request gets through, and the answer is not a denial."""

from __future__ import annotations

import json
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from docs.pages import read
from keyfence import Client, RateLimit
from support.edge.authority import Authority
from support.edge.configuration import Route, edge_config, ext_authz
from support.edge.envoy import Envoy, StartEnvoy
from support.edge.http import Answer, bearer, send
from support.edge.upstream import Upstream
from support.redis import RedisServer
from support.served import Served

EXAMPLES = Path(__file__).parents[2] / "examples" / "keyspaces"


@pytest.fixture(scope="module")
def silent_port() -> Iterator[int]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        yield port


def get(envoy: Envoy, api_key: str, path: str = "/api/v1/instances") -> Answer:
    return send(envoy.ports["edge"], "GET", path, [bearer(api_key)])


def test_with_the_authority_away_every_request_gets_a_503(
    tmp_path: Path, upstream: Upstream, start_envoy: StartEnvoy
) -> None:
    authority = Authority(tmp_path / "data")
    try:
        authority.apply("quicksrv")
        key = authority.make_key("quicksrv", "vps:read")
        config = edge_config(keyfence_port=authority.port, upstream_port=upstream.port)
        envoy = start_envoy(config, authority.edge_token("quicksrv"))
        assert get(envoy, key).status == 200
        upstream.take()
    finally:
        authority.stop()

    for _ in range(3):
        assert get(envoy, key).status == 503
    assert get(envoy, "made-up").status == 503
    assert send(envoy.ports["edge"], "GET", "/api/v1/instances").status == 503
    assert upstream.take() == []


def test_an_authority_that_is_silent_is_as_good_as_none(
    upstream: Upstream, start_envoy: StartEnvoy, silent_port: int
) -> None:
    """A process that is stopped still has its connections open."""
    config = edge_config(keyfence_port=silent_port, upstream_port=upstream.port, check_timeout=None)
    envoy = start_envoy(config, "kfop_whatever")

    assert get(envoy, "qsk_live_whatever").status == 503
    assert upstream.take() == []


def test_without_the_counter_of_limits_limited_keys_get_a_503_if_that_is_set(
    tmp_path: Path, upstream: Upstream, start_envoy: StartEnvoy
) -> None:
    redis = RedisServer()
    redis.start()
    authority = Authority(
        tmp_path / "data",
        rate_limit_url=redis.url,
        rate_limit_timeout_seconds=20,
        rate_limit_on_failure="deny",
    )
    try:
        authority.apply("quicksrv")
        once = RateLimit(1, timedelta(days=1))
        used_up, limited = [
            authority.make_key("quicksrv", "vps:read", rate_limit=once) for _ in range(2)
        ]
        free = authority.make_key("quicksrv", "vps:read")
        config = edge_config(keyfence_port=authority.port, upstream_port=upstream.port)
        envoy = start_envoy(config, authority.edge_token("quicksrv"))
        assert [get(envoy, used_up).status for _ in range(2)] == [200, 429]
        upstream.take()
        redis.stop()

        answers = [get(envoy, key) for key in (used_up, limited, limited)]
        assert [answer.status for answer in answers] == [503] * 3
        assert answers[0].json()["error"] == "temporarily_unavailable"
        assert upstream.take() == []
        assert get(envoy, free).status == 200
    finally:
        authority.stop()
        redis.close()


def test_a_stopped_authority_lets_no_request_through_and_continues_afterwards(
    upstream: Upstream, start_envoy: StartEnvoy
) -> None:
    """The process and its connections are there, as on a machine that is suspended."""
    with tempfile.TemporaryDirectory(prefix="keyfence-") as name:
        served = Served(
            Path(name),
            {"KEYFENCE_BOOTSTRAP_KEYSPACES": str(EXAMPLES / "quicksrv.yaml")},
        )
        try:
            with Client(served.target, token=served.root_key) as operator:
                key = operator.create_key(
                    keyspace="quicksrv", account_id="acct_1", scopes=["vps:read"]
                ).api_key
            config = edge_config(
                keyfence_socket=Path(served.target.removeprefix("unix:")),
                upstream_port=upstream.port,
                check_timeout="5s",
            )
            envoy = start_envoy(config, served.root_key)
            assert get(envoy, key).status == 200
            upstream.take()

            os.kill(served.pid, signal.SIGSTOP)
            try:
                assert get(envoy, key).status == 503
                assert upstream.take() == []
            finally:
                os.kill(served.pid, signal.SIGCONT)

            assert get(envoy, key).status == 200
        finally:
            served.stop()


def test_an_edge_whose_own_credential_does_not_pass_lets_no_request_through(
    authority: Authority, upstream: Upstream, start_envoy: StartEnvoy
) -> None:
    """Its callers' keys are not at fault, and must not be told so."""
    key = authority.make_key("quicksrv", "vps:read")
    may_not_check = authority.operator.create_key(
        keyspace="system", account_id="edge", scopes=["keys:read"], bound_keyspaces=["quicksrv"]
    ).api_key
    for token in ("", "kfop_made_up", key, may_not_check):
        config = edge_config(keyfence_port=authority.port, upstream_port=upstream.port)
        envoy = start_envoy(config, token)
        assert get(envoy, key).status == 503
        envoy.stop()
    assert upstream.take() == []


@pytest.mark.parametrize(
    "extensions",
    [
        {},
        {"required_scopes": ""},
        {"required_scopes": " , "},
        {"authenticate_only": "yes"},
        {"authenticate_only": "false"},
        {"authenticate_only": "true", "required_scopes": "vps:read"},
        {"required_scope": "vps:read"},
        {"required_scopes": "vps:reed"},
        {"required_scopes": "vps:*"},
        {"required_scopes": "*"},
        {"required_scopes": "vps:read", "cost": "cheap"},
        {"required_scopes": "vps:read", "cost": "-1"},
        {"required_scopes": "vps:read", "keyspace": "unheard-of"},
        {"required_scopes": "vps:read", "keyspace": ""},
        # Bound to quicksrv, it may not ask about other keyspaces' keys, nor about operators.
        {"required_scopes": "vps:read", "keyspace": "sitequest"},
        {"required_scopes": "keys:check", "keyspace": "system"},
    ],
    ids=str,
)
def test_a_route_that_names_no_scope_lets_no_request_through(
    authority: Authority, upstream: Upstream, start_envoy: StartEnvoy, extensions: dict[str, str]
) -> None:
    """A typing error in a route must not open it, nor look like a fault of its callers."""
    everything = authority.make_key("quicksrv", "*")
    config = edge_config(
        keyfence_port=authority.port,
        upstream_port=upstream.port,
        routes=[Route("GET", "/broken", extensions=extensions)],
    )
    envoy = start_envoy(config, authority.edge_token("quicksrv"))
    try:
        answer = get(envoy, everything, "/broken")
        keyless = send(envoy.ports["edge"], "GET", "/broken")
    finally:
        envoy.stop()

    assert answer.status == keyless.status == 500
    assert answer.json() == {
        "error": "temporarily_unavailable",
        "error_description": "The request could not be checked",
    }
    assert answer.header("www-authenticate") is None
    assert upstream.take() == []


def test_without_a_keyspace_there_is_no_check(
    authority: Authority, upstream: Upstream, start_envoy: StartEnvoy
) -> None:
    """A credential that may ask about several keyspaces must not find the key in any of them."""
    key = authority.make_key("quicksrv", "vps:read")
    config = edge_config(
        keyfence_port=authority.port,
        upstream_port=upstream.port,
        routes=[Route("GET", "/broken", "vps:read")],
    )
    chain = config["static_resources"]["listeners"][0]["filter_chains"][0]
    manager = chain["filters"][0]["typed_config"]
    del manager["route_config"]["virtual_hosts"][0]["typed_per_filter_config"]
    envoy = start_envoy(config, authority.edge_token("*"))

    assert get(envoy, key, "/broken").status == 500
    assert upstream.take() == []


def test_duplicate_headers_are_refused_even_where_envoy_joins_them(
    authority: Authority, upstream: Upstream, start_envoy: StartEnvoy
) -> None:
    """Without `encode_raw_headers`, Keyfence sees one header with a comma in it."""
    key, other = (authority.make_key("quicksrv", "vps:read") for _ in range(2))
    config = edge_config(keyfence_port=authority.port, upstream_port=upstream.port)
    ext_authz(config)["encode_raw_headers"] = False
    envoy = start_envoy(config, authority.edge_token("quicksrv"))

    assert get(envoy, key).status == 200
    upstream.take()
    for headers in (
        [bearer(key), bearer(other)],
        [bearer(key), bearer(key)],
        [("X-API-Key", key), ("X-API-Key", other)],
    ):
        answer = send(envoy.ports["edge"], "GET", "/api/v1/instances", headers)
        assert answer.status == 401, headers
    assert upstream.take() == []


@pytest.mark.parametrize(
    ("extensions", "error"),
    [
        ({}, "ROUTE_UNUSABLE"),
        ({"required_scopes": "vps:read", "cost": "cheap"}, "ROUTE_UNUSABLE"),
        ({"required_scopes": "vps:reed"}, "UNKNOWN_SCOPE"),
        ({"required_scopes": "vps:read", "keyspace": "sitequest"}, "KEYSPACE_NOT_BOUND"),
    ],
    ids=str,
)
def test_the_access_log_says_why_nothing_could_be_decided(
    authority: Authority,
    upstream: Upstream,
    start_envoy: StartEnvoy,
    extensions: dict[str, str],
    error: str,
) -> None:
    config = edge_config(
        keyfence_port=authority.port,
        upstream_port=upstream.port,
        routes=[Route("GET", "/broken", extensions=extensions)],
    )
    envoy = start_envoy(config, authority.edge_token("quicksrv"))

    answer = get(envoy, authority.make_key("quicksrv", "vps:read"), "/broken")

    assert answer.status == 500
    envoy.wait_for_output(answer.header("x-request-id") or "-")
    (line,) = (json.loads(one) for one in envoy.output.splitlines() if one.startswith("{"))
    assert (line["error"], line["reason"], line["key_id"]) == (error, None, None)
    assert error in read("docs/errors.md")
