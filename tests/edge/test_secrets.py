"""No key is written where it could be read without permission, even under faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.edge.authority import Authority
from support.edge.configuration import Route, edge_config
from support.edge.envoy import StartEnvoy
from support.edge.gateway import Gateway
from support.edge.http import bearer, send
from support.edge.upstream import Upstream


def test_keys_are_in_no_log_no_answer_no_file_and_not_at_the_upstream(
    tmp_path: Path,
    upstream: Upstream,
    start_envoy: StartEnvoy,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Good, revoked and made-up keys, in the right places and in wrong ones, while Keyfence
    is there, while a route is misconfigured, and while Keyfence is away."""
    authority = Authority(tmp_path / "data")
    try:
        authority.apply("quicksrv")
        good, revoked = (authority.make_key("quicksrv", "vps:read") for _ in range(2))
        token = authority.edge_token("quicksrv")
        config = edge_config(
            keyfence_port=authority.port,
            upstream_port=upstream.port,
            routes=[
                Route("GET", "/good", "vps:read"),
                Route("GET", "/lacking", "vps:create"),
                Route("GET", "/broken", "vps:reed"),
            ],
        )
        envoy = start_envoy(config, token)
        authority.operator.revoke_key(authority.key_id_of(revoked, "quicksrv"))
        canaries = {
            "good": good,
            "revoked": revoked,
            "made up": f"{good[:-4]}aaaa",
            "token": token,
        }
        answers = [
            send(envoy.ports["edge"], "GET", path, headers)
            for path in ("/good", "/lacking", "/broken", "/nowhere")
            for key in canaries.values()
            for headers in (
                [bearer(key)],
                [("X-API-Key", key)],
                [bearer(key), ("X-API-Key", good)],
                [bearer(key), ("x-request-id", key)],
                [bearer(key), ("x-keyfence-key-id", key)],
                [("Authorization", f"Basic {key}")],
            )
        ]
    finally:
        authority.stop()
    answers += [send(envoy.ports["edge"], "GET", "/good", [bearer(key)]) for key in (good, token)]

    last = answers[-1].header("x-request-id")
    assert last is not None
    envoy.wait_for_output(last)
    output = capfd.readouterr()
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    sinks = {
        "the answers": repr(answers),
        "Envoy's log": envoy.output,
        "Keyfence's log": output.out + output.err,
        "the upstream": repr(upstream.take()),
        **{f"the file {path.name}": path.read_bytes().decode("latin-1") for path in files},
    }
    for name, key in canaries.items():
        for sink, content in sinks.items():
            assert key not in content, f"the {name} key is in {sink}"
    assert {answer.status for answer in answers} == {200, 401, 403, 404, 500, 503}


def test_the_gateway_keeps_no_secret_and_tells_none(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Keys, sessions and passwords, in the right places and in wrong ones, while Keyfence is
    there and while it is away."""
    authority = Authority(tmp_path / "data")
    gateway = None
    try:
        authority.apply("xquik")
        good, revoked = (authority.make_key("xquik") for _ in range(2))
        gateway = Gateway(
            tmp_path / "gateway",
            authority.port,
            {"KEYFENCE_GATEWAY_COOKIE": "session_token", "KEYFENCE_GATEWAY_LOG_LEVEL": "info"},
        )
        authority.operator.revoke_key(authority.key_id_of(revoked, "xquik"))
        account = {"keyspace": "xquik", "email": "c@example.com", "password": "correct horse c"}
        gateway.call("POST", "/v1/accounts:register", account, token=authority.root_key)
        session = gateway.call("POST", "/v1/accounts:logIn", account).json()["sessionToken"]
        made = gateway.call("POST", "/v1/keys", {}, token=good).json()["apiKey"]
        canaries = {
            "good": good,
            "revoked": revoked,
            "made up": f"{good[:-4]}aaaa",
            "new": made,
            "session": session,
            "password": account["password"],
            "root": authority.root_key,
        }
        requests = [
            (method, path, body, headers)
            for key in canaries.values()
            for method, path, body, headers in (
                ("GET", "/v1/whoami", None, [bearer(key)]),
                ("GET", "/v1/whoami", None, [("X-API-Key", key)]),
                ("GET", "/v1/whoami", None, [("Cookie", f"session_token={key}")]),
                ("GET", "/v1/whoami", None, [bearer(key), ("X-API-Key", good)]),
                ("GET", "/v1/whoami", None, [("Authorization", f"Basic {key}")]),
                ("GET", "/v1/nowhere", None, [bearer(key)]),
                ("GET", "/v1/whoami", None, [bearer(good), ("x-request-id", key)]),
                ("GET", "/v1/whoami", None, [("traceparent", key), ("x-b3-traceid", key)]),
                ("POST", "/v1/keys", {key: 1}, [bearer(good)]),
                ("POST", "/v1/keys", {"labels": {"a": {key: 1, "b": key}}}, [bearer(good)]),
                ("POST", "/v1/accounts:logIn", {**account, "password": f"{key}!"}, []),
            )
        ]
        answers = [
            gateway.call(method, path, body, headers=headers)
            for method, path, body, headers in requests
        ]
    finally:
        authority.stop()
    try:
        answers += [
            gateway.call(method, path, body, headers=headers)
            for method, path, body, headers in requests
        ]
    finally:
        gateway.stop()

    output = capfd.readouterr()
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    sinks = {
        "the answers": repr(answers),
        "the gateway's log": gateway.output,
        "Keyfence's log": output.out + output.err,
        **{
            f"the file {path.name}": path.read_bytes().decode("latin-1")
            for path in files
            if path.name != "root.key"
        },
    }
    for name, key in canaries.items():
        for sink, content in sinks.items():
            assert key not in content, f"the {name} is in {sink}"
    assert {answer.status for answer in answers} == {200, 400, 401, 404, 503}
