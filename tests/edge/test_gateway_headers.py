"""A malformed header of gRPC is refused at the door, and no other caller notices it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from keyfence import Client
from keyfence_server.gateway.configuration import gateway_config
from keyfence_server.gateway.settings import GatewaySettings
from support.edge.authority import Authority
from support.edge.configuration import connection_manager
from support.edge.envoy import StartEnvoy
from support.edge.gateway import Gateway
from support.edge.http import send

MALFORMED = [
    ("grpc-timeout", "x"),
    ("grpc-timeout", ""),
    ("grpc-timeout", "1"),
    ("grpc-timeout", "123456789S"),
    ("grpc-encoding", "bogus"),
    ("grpc-internal-encoding-request", "x"),
    ("grpc-previous-rpc-attempts", "x"),
    ("grpc-retry-pushback-ms", "x"),
    ("grpc-status", "x"),
    ("grpc-tags-bin", "!"),
    ("grpc-trace-bin", "YWFh YWFh"),
    ("lb-cost-bin", "YWFh"),
    ("x-anything-bin", "!!!"),
    ("x-anything-bin", "Y"),
    ("x-anything-bin", "YR"),
    ("x-anything-bin", "YWF="),
    ("x-anything-bin", "YQ="),
    ("x-anything-bin", "YQ,YQ"),
]
WELL_FORMED = [
    ("grpc-timeout", "5S"),
    ("grpc-timeout", "12345678u"),
    ("grpc-encoding", "gzip"),
    ("grpc-accept-encoding", "identity, deflate, gzip"),
    ("grpc-previous-rpc-attempts", "2"),
    ("grpc-trace-bin", ""),
    ("x-anything-bin", "YQ"),
    ("x-anything-bin", "YQ=="),
    ("x-anything-bin", "YWE="),
    ("x-anything-bin", "YWFh"),
]


@pytest.fixture
def caller(gateway: Gateway, account_key: str) -> Iterator[Client]:
    """A caller with deadlines, behind the same gateway."""
    with Client(f"127.0.0.1:{gateway.port}", token=account_key) as client:
        yield client


@pytest.mark.parametrize(("name", "value"), MALFORMED)
def test_a_malformed_one_is_refused(
    gateway: Gateway, caller: Client, name: str, value: str
) -> None:
    for _ in range(2):
        answer = gateway.send("GET", "/v1/whoami", [(name, value)])
        assert answer.status == 400
        assert name in answer.json()["message"] or "gRPC" in answer.json()["message"]
    assert caller.who_am_i().principal.keyspace == "xquik"


@pytest.mark.parametrize(("name", "value"), WELL_FORMED)
def test_a_well_formed_one_is_not(gateway: Gateway, name: str, value: str) -> None:
    for _ in range(2):
        assert gateway.send("GET", "/v1/whoami", [(name, value)]).status == 401


def test_one_that_comes_twice_is_refused(gateway: Gateway) -> None:
    twice = [("grpc-timeout", "1S"), ("grpc-timeout", "2S")]

    assert gateway.send("GET", "/v1/whoami", twice).status == 400


def test_a_method_that_grpc_does_not_know_is_refused(gateway: Gateway, caller: Client) -> None:
    for method in ("HEAD", "GET", "PUT", "PATCH", "OPTIONS"):
        for _ in range(2):
            answer = gateway.send(method, "/keyfence.v1.AuthorizationService/WhoAmI")
            assert answer.status == 404, method
        assert caller.who_am_i().principal.keyspace == "xquik", method


def test_one_that_got_through_all_the_same_harms_no_other_caller(
    authority: Authority, account_key: str, start_envoy: StartEnvoy
) -> None:
    """gRPC would remember it in the header table of the connection that all callers share."""
    config = gateway_config(
        GatewaySettings(listen="127.0.0.1:0", target=f"127.0.0.1:{authority.port}")
    )
    manager = connection_manager(config)
    kept = [one for one in manager["http_filters"] if one["name"] != "keyfence.headers"]
    assert len(kept) == len(manager["http_filters"]) - 1
    manager["http_filters"] = kept
    port = start_envoy(config).ports["gateway"]

    with Client(f"127.0.0.1:{port}", token=account_key) as caller:
        for name, value in MALFORMED:
            for _ in range(2):
                send(port, "GET", "/v1/whoami", [(name, value)])
            assert caller.who_am_i().principal.keyspace == "xquik", name


@pytest.mark.parametrize(
    "path",
    [
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/keyfence.v1.ReplicationService/Sync",
    ],
)
def test_a_stream_that_is_not_offered_is_refused_while_its_caller_still_sends(
    gateway: Gateway, path: str
) -> None:
    def sends_nothing() -> Iterator[bytes]:
        time.sleep(3)
        yield from ()

    with grpc.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        # The stubs cannot say that it sends and receives bytes.
        method: Any = channel.stream_stream(path)
        assert method(sends_nothing(), timeout=30).code() is grpc.StatusCode.UNIMPLEMENTED
