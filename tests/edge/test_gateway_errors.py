"""Every refusal is a `google.rpc.Status`, of the gateway and of the server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.edge.authority import Authority
from support.edge.gateway import Gateway
from support.edge.http import Answer, bearer, send_raw

JSON = ("content-type", "application/json")


def assert_is_status(answer: Answer, status: int, code: int) -> None:
    assert answer.status == status, answer
    assert answer.header("content-type") == "application/json"
    body = answer.json()
    assert set(body) == {"code", "message", "details"}
    assert body["code"] == code
    assert body["message"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/v1/keys", b"{", 400, 3),
        ("POST", "/v1/keys", b'{"displayName": {"a": 1}}', 400, 3),
        ("POST", "/v1/keys", b'{"rateLimit": "fast"}', 400, 3),
        ("POST", "/v1/keys", b'{"expireTime": "tomorrow"}', 400, 3),
        ("POST", "/v1/keys", b'{"bogus": 1}', 400, 3),
        ("GET", "/v1/keys?state=KEY_STATE_GONE", b"", 400, 3),
        ("GET", "/v1/keys?pageSize=many", b"", 400, 3),
        ("GET", "/v1/keys?bogus=1", b"", 400, 3),
        ("PATCH", "/v1/keys/key_x", b'{"key": {"state": "GONE"}}', 400, 3),
        ("GET", "/v1/unknown", b"", 404, 5),
        ("POST", "/v1/unknown", b"{}", 404, 5),
        ("PUT", "/v1/whoami", b"{}", 404, 5),
        ("GET", "/", b"", 404, 5),
        ("POST", "/keyfence.v1.KeyService/ListKeys", b"{}", 404, 5),
        ("GET", "/v1/keys/key_x", b"", 404, 5),
        ("POST", "/v1/keys", b" " * (1024 * 1024 + 1), 413, 8),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_request_that_is_wrong(
    gateway: Gateway,
    account_key: str,
    method: str,
    path: str,
    body: bytes,
    status: int,
    code: int,
) -> None:
    answer = gateway.send(method, path, [bearer(account_key), JSON], body)

    assert_is_status(answer, status, code)


def test_a_caller_that_is_refused(gateway: Gateway, account_key: str) -> None:
    cookie = ("Cookie", f"session_token={account_key}")
    foreign = ("Origin", "https://evil.example.com")

    assert_is_status(gateway.send("GET", "/v1/whoami"), 401, 16)
    assert_is_status(gateway.send("GET", "/v1/keyspaces", [bearer(account_key)]), 403, 7)
    assert_is_status(gateway.send("POST", "/v1/keys", [cookie, JSON, foreign], b"{}"), 403, 7)
    twice = [bearer(account_key), ("X-API-Key", account_key)]
    assert_is_status(gateway.send("GET", "/v1/whoami", twice), 400, 3)


def test_headers_that_are_too_much_for_keyfence_are_refused_here(
    gateway: Gateway, account_key: str
) -> None:
    """Keyfence's own refusal of them would be one of gRPC, in gRPC's words. So just below
    what is refused, each shape of headers must get through."""
    for filling in (
        lambda size: [("x-filling", "x" * size)],
        lambda size: [(f"x-{number}", "x" * (size // 40)) for number in range(40)],
        lambda size: [(f"x-{number}", "x") for number in range(size // 100)],
    ):
        statuses = set()
        for size in range(3_000, 9_000, 50):
            answer = gateway.send("GET", "/v1/whoami", [bearer(account_key), *filling(size)])
            statuses.add(answer.status)
            if answer.status != 200:
                assert_is_status(answer, 431, 8)
        assert statuses == {200, 431}


def test_what_is_no_http(gateway: Gateway) -> None:
    for raw in (b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\nhost: a\r\nx_y: z\r\n\r\n"):
        head, _, body = send_raw(gateway.port, raw).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400")
        assert json.loads(body)["code"] == 3


def test_keyfence_being_away(authority: Authority, tmp_path: Path) -> None:
    running = Gateway(
        tmp_path, authority.port, {"KEYFENCE_GATEWAY_TARGET": f"unix:{tmp_path}/nobody.sock"}
    )
    try:
        answer = running.send("GET", "/v1/whoami")
        grpc = running.send(
            "POST",
            "/keyfence.v1.AuthorizationService/WhoAmI",
            [("content-type", "application/grpc-web+proto")],
            b"\x00\x00\x00\x00\x00",
        )
    finally:
        running.stop()

    assert_is_status(answer, 503, 14)
    assert grpc.header("grpc-status") == "14" or b"grpc-status:14" in grpc.body
    assert b'"code"' not in grpc.body
