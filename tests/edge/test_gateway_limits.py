"""What a caller, or all of them, can make the gateway hold is bounded."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from keyfence import Client
from keyfence_server.gateway.configuration import gateway_config
from keyfence_server.gateway.settings import GatewaySettings
from support.edge.authority import Authority
from support.edge.configuration import connection_manager
from support.edge.envoy import StartEnvoy
from support.edge.gateway import Gateway
from support.edge.http import bearer, send, send_raw

LIMIT = 1024 * 1024
REGISTER = "/v1/accounts:register"


def chunked_head(path: str, content_type: str = "application/json") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nhost: gateway\r\ncontent-type: {content_type}\r\n"
        "te: trailers\r\ntransfer-encoding: chunked\r\n\r\n"
    ).encode()


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


def endless_answer(port: int, head: bytes, start: bytes) -> tuple[bytes, int]:
    """What comes back of a body without an end, and how much of it was sent."""
    sent = 0
    with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
        try:
            connection.sendall(head + chunk(start))
            while sent < 64 * LIMIT:
                connection.sendall(chunk(b"x" * 65_536))
                sent += 65_536
        except OSError:
            pass  # it was cut off
        return connection.recv(65_536), sent


def is_one_cut_off(connections: list[socket.socket]) -> bool:
    """Whether something came back over a connection, if only its end."""
    poller = select.poll()
    for connection in connections:
        poller.register(connection, select.POLLIN)
    return bool(poller.poll(0))


def test_a_body_may_be_as_long_as_is_said_and_no_longer(gateway: Gateway, account_key: str) -> None:
    headers = [bearer(account_key), ("content-type", "application/json")]
    longest = b'{"displayName": "a"' + b" " * (LIMIT - 20) + b"}"
    assert len(longest) == LIMIT

    assert gateway.send("POST", "/v1/keys", headers, longest).status == 200
    assert gateway.send("POST", "/v1/keys", headers, longest + b" ").status == 413


@pytest.mark.parametrize(
    ("path", "content_type", "start"),
    [
        (REGISTER, "application/json", b'{"email": "'),
        (REGISTER, "application/grpc", b"\x00\x7f\xff\xff\xff"),
        (
            "/keyfence.v1.AccountService/LogIn",
            "application/grpc-web+proto",
            b"\x00\x7f\xff\xff\xff",
        ),
    ],
)
def test_a_body_without_an_end_is_cut_off_there(
    gateway: Gateway, path: str, content_type: str, start: bytes
) -> None:
    """A client needs no credential to send such a body."""
    answer, sent = endless_answer(gateway.port, chunked_head(path, content_type), start)

    assert sent < 32 * LIMIT
    assert answer.startswith((b"HTTP/1.1 413", b"HTTP/1.1 200")), answer[:200]
    assert b"413" in answer or b"grpc-status:" in answer.replace(b" ", b"")


def test_a_body_that_no_route_reads_is_not_waited_for(gateway: Gateway) -> None:
    head = chunked_head("/openapi.json", "application/json")
    answer, sent = endless_answer(gateway.port, head, b"{")

    assert sent < 32 * LIMIT
    assert answer.startswith(b"HTTP/1.1 404"), answer[:200]


def test_all_together_are_bounded_too_and_afterwards_it_serves_again(
    start_envoy: StartEnvoy,
) -> None:
    config = gateway_config(GatewaySettings(listen="127.0.0.1:0"))
    (heap,) = (
        one["typed_config"]
        for one in config["overload_manager"]["resource_monitors"]
        if one["name"].endswith("fixed_heap")
    )
    assert heap["max_heap_size_bytes"] == 1024 * LIMIT
    heap["max_heap_size_bytes"] = 64 * LIMIT
    port = start_envoy(config).ports["gateway"]
    nearly_all = chunked_head(REGISTER) + chunk(b'{"email": "' + b"x" * (LIMIT - 20))

    opened: list[socket.socket] = []
    with ExitStack() as held:
        for number in range(1_000):
            connection = socket.create_connection(("127.0.0.1", port), timeout=15)
            held.callback(connection.close)
            opened.append(connection)
            try:
                connection.sendall(nearly_all)
            except OSError:
                break  # refused
            if number % 20 == 0 and (
                is_one_cut_off(opened) or send(port, "GET", "/openapi.json").status == 503
            ):
                break
        else:
            raise AssertionError("a thousand bodies were held at once")

    statuses = (send(port, "GET", "/openapi.json").status for _ in range(10_000))
    assert 200 in statuses


def test_a_request_that_never_ends_arriving_is_given_up(start_envoy: StartEnvoy) -> None:
    config = gateway_config(GatewaySettings(listen="127.0.0.1:0"))
    manager = connection_manager(config)
    assert manager["request_timeout"] == "60s"
    manager["request_timeout"] = "0.2s"
    port = start_envoy(config).ports["gateway"]

    answer = send_raw(port, chunked_head(REGISTER) + chunk(b'{"email": "'), silence=15)

    assert answer.startswith(b"HTTP/1.1 408")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == 4


def test_a_page_of_many_records_is_no_longer_than_what_may_be_answered(
    authority: Authority, tmp_path: Path
) -> None:
    """How much may be sent says nothing of how much may be answered."""
    labels = {f"{number:060}": "x" * 250 for number in range(30)}
    for _ in range(20):
        authority.make_key("demo", labels=labels)
    small = Gateway(tmp_path, authority.port, {"KEYFENCE_GATEWAY_MAX_REQUEST_BYTES": "1024"})
    try:
        answer = small.call("GET", "/v1/keys?keyspace=demo", token=authority.root_key)
    finally:
        small.stop()

    assert answer.status == 200
    assert len(answer.body) > 150_000


@pytest.fixture
def client(gateway: Gateway, account_key: str) -> Iterator[Client]:
    with Client(f"127.0.0.1:{gateway.port}", token=account_key) as one:
        yield one


def test_grpc_goes_through_all_of_this_unchanged(client: Client) -> None:
    created = client.create_key(display_name="a")
    rotated = client.rotate_key(created.key.key_id)
    client.revoke_key(rotated.key.key_id)

    keys = {one.key_id: one for one in client.list_keys()}

    assert keys[rotated.key.key_id].state.name == "REVOKED"
