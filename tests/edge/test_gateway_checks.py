"""Checks over REST and gRPC-Web: the same questions, with a caller's credential."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keyfence.v1 import authorization_service_pb2
from support.edge.authority import Authority
from support.edge.gateway import Gateway
from support.edge.http import Answer, bearer

PAGE = Path(__file__).parents[2] / "docs" / "gateway.md"
CHECK = "/v1/keys:check"


@pytest.fixture
def token(authority: Authority) -> str:
    """A credential that may ask about one keyspace."""
    return authority.edge_token("demo")


@pytest.fixture
def key(authority: Authority) -> str:
    """A key that may read."""
    return authority.make_key("demo", "vps:read")


def check(gateway: Gateway, token: str | None, **body: Any) -> Answer:
    return gateway.call("POST", CHECK, {"keyspace": "demo", **body}, token=token)


def test_a_check_says_what_the_rpc_says(
    gateway: Gateway, authority: Authority, token: str, key: str
) -> None:
    good = check(gateway, token, apiKey=key, requiredScopes=["vps:read"])
    lacking = check(gateway, token, apiKey=key, requiredScopes=["vps:write"])
    authority.operator.revoke_key(authority.key_id_of(key, "demo"))
    revoked = check(gateway, token, apiKey=key, requiredScopes=["vps:read"])

    assert [one.status for one in (good, lacking, revoked)] == [200] * 3
    assert (good.json()["allowed"], good.json()["reason"]) == (True, "REASON_OK")
    assert lacking.json()["allowed"] is False
    assert lacking.json()["missingScopes"] == ["vps:write"]
    assert (revoked.json()["allowed"], revoked.json()["reason"]) == (False, "REASON_KEY_REVOKED")


def test_only_a_credential_for_checks_of_that_keyspace_may_ask(
    gateway: Gateway, authority: Authority, token: str, key: str
) -> None:
    question = {"apiKey": key, "requiredScopes": ["vps:read"]}

    assert check(gateway, None, **question).status == 401
    assert check(gateway, key, **question).status == 403
    assert check(gateway, authority.edge_token("xquik"), **question).status == 403


def test_a_key_is_not_taken_from_a_url(gateway: Gateway, token: str, key: str) -> None:
    """Every proxy on the way would log it."""
    answer = gateway.call(
        "POST", f"{CHECK}?apiKey={key}", {"requiredScopes": ["vps:read"]}, token=token
    )

    assert answer.status == 400
    assert key not in answer.body.decode()
    assert gateway.call("GET", f"{CHECK}?apiKey={key}", token=token).status == 404


def test_grpc_web_asks_as_well(gateway: Gateway, token: str, key: str) -> None:
    message = authorization_service_pb2.CheckScopeRequest(
        api_key=key, keyspace="demo", required_scopes=["vps:read"]
    ).SerializeToString()

    answer = gateway.send(
        "POST",
        "/keyfence.v1.AuthorizationService/CheckScope",
        [bearer(token), ("content-type", "application/grpc-web+proto"), ("x-grpc-web", "1")],
        b"\0" + len(message).to_bytes(4, "big") + message,
    )

    length = int.from_bytes(answer.body[1:5], "big")
    response = authorization_service_pb2.CheckScopeResponse.FromString(answer.body[5 : 5 + length])
    assert response.allowed


def commands() -> Iterator[list[str]]:
    """The lines of the page that call curl, with their continuations."""
    section = PAGE.read_text().split("## Checks from a script")[1].split("```sh\n")[1]
    for line in section.split("```")[0].replace("\\\n", " ").splitlines():
        yield shlex.split(line)


@pytest.mark.parametrize("words", [*commands()], ids=lambda words: words[2].rpartition(":")[2])
def test_the_pages_commands_do_what_it_says(
    gateway: Gateway, token: str, key: str, words: list[str]
) -> None:
    def filled(text: str) -> str:
        return text.replace("$TOKEN", token).replace("$KEY", key).replace("$GATEWAY", "")

    assert words[:2] == ["curl", "-s"]
    path, *options = map(filled, words[2:])
    pairs = list(zip(options[::2], options[1::2], strict=True))
    headers = [tuple(value.split(": ", 1)) for name, value in pairs if name == "-H"]
    ((body),) = [value for name, value in pairs if name == "-d"]

    answer = gateway.send("POST", path, [(name, value) for name, value in headers], body.encode())

    assert answer.status == 200, answer.body
    found = json.dumps(answer.json())
    assert '"allowed": true' in found or '"authenticated": true' in found
