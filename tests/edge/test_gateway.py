"""REST, gRPC-Web and OpenAPI through `keyfence gateway`."""

from __future__ import annotations

import base64
import json
import subprocess
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

import pytest

from keyfence.v1 import authorization_service_pb2
from support.edge.authority import Authority
from support.edge.gateway import Gateway
from support.edge.http import bearer
from support.served import COMMAND, environment_without_settings

CORS = ("Origin", "https://app.example.com")


def test_whoami_tells_the_bearer_of_any_key_about_itself(
    gateway: Gateway, authority: Authority
) -> None:
    key = authority.make_key("quicksrv", "vps:create")

    for headers in ([bearer(key)], [("X-API-Key", key)]):
        answer = gateway.send("GET", "/v1/whoami", headers)

        assert answer.status == 200
        principal = answer.json()["principal"]
        assert principal["keyspace"] == "quicksrv"
        assert principal["effectiveScopes"] == ["vps:create", "vps:read", "vps:write"]
        assert "apiKey" not in json.dumps(answer.json())


def test_keys_are_made_listed_rotated_and_revoked_over_rest(
    gateway: Gateway, authority: Authority, account_key: str
) -> None:
    made = gateway.call("POST", "/v1/keys", {"displayName": "Production"}, token=account_key).json()
    key_id = made["key"]["keyId"]

    got = gateway.call("GET", f"/v1/keys/{key_id}", token=account_key).json()["key"]
    listed = gateway.call("GET", "/v1/keys?pageSize=1000", token=account_key).json()["keys"]
    rotated = gateway.call("POST", f"/v1/keys/{key_id}:rotate", {}, token=account_key).json()
    successor = rotated["key"]["keyId"]
    renamed = gateway.call(
        "PATCH",
        f"/v1/keys/{successor}",
        {"key": {"displayName": "Renamed"}, "updateMask": "displayName"},
        token=account_key,
    ).json()
    revoked = gateway.call("DELETE", f"/v1/keys/{successor}", token=account_key)

    assert made["apiKey"].startswith("xq_")
    assert got["displayName"] == "Production"
    assert key_id in [one["keyId"] for one in listed]
    assert made["apiKey"] not in json.dumps(listed)
    assert renamed["key"]["displayName"] == "Renamed"
    assert revoked.json()["key"]["state"] == "KEY_STATE_REVOKED"
    assert gateway.call("GET", "/v1/whoami", token=rotated["apiKey"]).status == 401


def test_errors_are_a_status_with_a_reason(gateway: Gateway, account_key: str) -> None:
    answer = gateway.call("GET", "/v1/keys/key_01jd2k7v9x4m8r5t6w3y1z0abc", token=account_key)

    assert answer.status == 404
    body = answer.json()
    (detail,) = body["details"]
    assert body["code"] == 5
    assert detail["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert (detail["domain"], detail["reason"]) == ("keyfence", "KEY_NOT_FOUND")


def test_a_field_that_is_wrong_is_named(gateway: Gateway, account_key: str) -> None:
    answer = gateway.call("POST", "/v1/keys", {"displayName": "x" * 201}, token=account_key)

    assert answer.status == 400
    assert "display_name" in answer.body.decode()


def test_without_a_good_credential_there_is_nothing(gateway: Gateway, authority: Authority) -> None:
    publishable = authority.make_key("quantumsafe", key_type="publishable")

    assert gateway.call("GET", "/v1/whoami").status == 401
    assert gateway.call("GET", "/v1/whoami", token="kf_made_up").status == 401
    assert gateway.call("GET", "/v1/keys", token=publishable).status == 403
    assert gateway.call("GET", "/v1/keyspaces", token=publishable).status == 403


def test_the_credential_is_not_taken_from_the_body(
    gateway: Gateway, authority: Authority, account_key: str
) -> None:
    """An account's key that names another account or keyspace gets nothing there."""
    other = authority.operator.create_key(keyspace="xquik", account_id="acct_other")

    for body in (
        {"accountId": "acct_other"},
        {"keyspace": "quicksrv"},
        {"keyspace": "system", "accountId": "operators", "scopes": ["keys:write"]},
        {"parentKeyId": other.key.key_id},
    ):
        answer = gateway.call("POST", "/v1/keys", body, token=account_key)
        assert answer.status in {400, 403, 404}, body
        assert "apiKey" not in answer.json()
    assert gateway.call("DELETE", f"/v1/keys/{other.key.key_id}", token=account_key).status == 404


def test_a_key_makes_no_key_that_exceeds_it(gateway: Gateway, authority: Authority) -> None:
    maker = authority.make_key(
        "demo", "vps:read", expire_time=authority.clock.now() + timedelta(days=1)
    )
    later = (authority.clock.now() + timedelta(days=2)).isoformat()

    for more in (
        {"scopes": ["vps:write"]},
        {"scopes": ["*"]},
        {"scopes": ["vps:*"]},
        {"scopes": ["vps:read"], "expireTime": later},
        {"preset": "full-access"},
    ):
        answer = gateway.call("POST", "/v1/keys", more, token=maker)
        assert answer.status == 403, more
        assert answer.json()["details"][0]["reason"] == "EXCEEDS_MAKER", more
    assert gateway.call("POST", "/v1/keys", {"scopes": ["vps:read"]}, token=maker).status == 200


def test_a_session_with_another_algorithm_or_signature_is_none(
    gateway: Gateway, authority: Authority
) -> None:
    account = {"keyspace": "xquik", "email": "b@example.com", "password": "correct horse b"}
    gateway.call("POST", "/v1/accounts:register", account, token=authority.root_key)
    token = gateway.call("POST", "/v1/accounts:logIn", account).json()["sessionToken"]
    assert gateway.call("GET", "/v1/account", token=token).status == 200
    header, claims, signature = token.split(".")

    def encoded(data: dict[str, str]) -> str:
        return base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()

    for forged in (
        f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{claims}.",
        f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{claims}.{signature}",
        f"{encoded({'alg': 'HS256', 'typ': 'JWT'})}.{claims}.{signature}",
        f"{header}.{claims}.",
        f"{header}.{claims}.{signature[:-4]}AAAA",
        f"{header}.{claims[:-2]}.{signature}",
    ):
        assert gateway.call("GET", "/v1/account", token=forged).status == 401, forged


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v2/keys",
        "/v1",
        "/v1/unknown",
        "/v1/keys/a/b/c",
        "/envoy.service.auth.v3.Authorization/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.health.v1.Health/Check",
        "/keyfence.v1.ReplicationService/Sync",
        "/stats",
        "/config_dump",
        "/quitquitquit",
    ],
)
def test_what_is_not_offered_is_not_there(gateway: Gateway, account_key: str, path: str) -> None:
    for method in ("GET", "POST"):
        assert gateway.call(method, path, token=account_key).status in {404, 400}, method


def test_unknown_query_parameters_are_refused(gateway: Gateway, account_key: str) -> None:
    """A filter that is misspelt would otherwise list everything."""
    assert gateway.call("GET", "/v1/keys?stat=revoked", token=account_key).status == 400


def test_grpc_web_reaches_the_same_rpcs(gateway: Gateway, account_key: str) -> None:
    answer = gateway.send(
        "POST",
        "/keyfence.v1.AuthorizationService/WhoAmI",
        [bearer(account_key), ("content-type", "application/grpc-web+proto"), ("x-grpc-web", "1")],
        b"\x00\x00\x00\x00\x00",
    )

    assert answer.status == 200
    frames = _frames(answer.body)
    message = authorization_service_pb2.WhoAmIResponse.FromString(frames[0][1])
    assert message.principal.keyspace == "xquik"
    assert frames[-1][0] & 0x80
    assert b"grpc-status:0" in frames[-1][1]


def _frames(raw: bytes) -> list[tuple[int, bytes]]:
    """The frames of a gRPC-Web answer: their flags and contents."""
    frames = []
    while raw:
        length = int.from_bytes(raw[1:5], "big")
        frames.append((raw[0], raw[5 : 5 + length]))
        raw = raw[5 + length :]
    return frames


def test_the_openapi_document_is_served_and_valid(gateway: Gateway) -> None:
    # Importing the validator compiles 38 grammars, which collecting the tests should not wait for.
    from openapi_spec_validator import validate  # noqa: PLC0415

    answer = gateway.send("GET", "/openapi.json")

    assert answer.status == 200
    assert answer.header("content-type") == "application/json"
    document = answer.json()
    assert document["openapi"] == "3.1.0"
    validate(document)


def test_the_openapi_document_says_which_calls_need_a_credential_and_what_bodies_may_hold(
    gateway: Gateway,
) -> None:
    document = gateway.send("GET", "/openapi.json").json()
    operations = {
        operation["operationId"]: {"security": document["security"], **operation}
        for methods in document["paths"].values()
        for operation in methods.values()
    }
    credentials: list[dict[str, list[str]]] = [{"bearer": []}, {"apiKey": []}]
    assert operations["CreateKey"]["security"] == credentials
    assert operations["LogIn"]["security"] == []
    assert operations["RegisterAccount"]["security"] == [{}, *credentials]
    put = operations["ApplyKeyspace"]
    assert [one["name"] for one in put["parameters"]] == [
        "name",
        "validateOnly",
        "ifRevision",
        "dropPreviousFormats",
    ]
    for operation in operations.values():
        if "requestBody" in operation:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            assert schema["unevaluatedProperties"] is False


def test_every_documented_path_is_there(gateway: Gateway, authority: Authority) -> None:
    """Each operation reaches Keyfence, which misses a credential or a field."""
    document = json.loads(
        files("keyfence_server.gateway").joinpath("openapi.json").read_text(encoding="utf-8")
    )
    operations = [
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    ]
    assert ("POST", "/v1/keys") in operations
    for method, path in operations:
        concrete = path.replace("{", "x").replace("}", "")
        body: object = {} if method in {"POST", "PUT", "PATCH"} else None
        answer = gateway.call(method, concrete, body)
        assert answer.status in {400, 401, 404}, (method, path, answer.status)
        details = answer.json()["details"]
        assert details[0]["domain"] == "keyfence", (method, path)


@pytest.mark.parametrize(
    ("request_id", "is_kept"),
    [
        ("req-of-the-client-7", True),
        ("0b4fd0a4-8d1c-4a9f-9f0c-2a7c2a8a6c11", True),
        ("edge.01:" * 8, True),
        ("edge.01:" * 8 + "9", False),
        ("of the client", False),
        ("one,two", False),
        ("xq_6QjiBoLc29KSTTpU7RHDX7YS8QgT8lO1", False),
        (None, False),
    ],
)
def test_a_request_has_one_id_in_its_answer_and_in_the_audit_log(
    gateway: Gateway,
    authority: Authority,
    account_key: str,
    request_id: str | None,
    is_kept: bool,
) -> None:
    headers = [("x-request-id", request_id)] if request_id is not None else []

    answer = gateway.call("POST", "/v1/keys", {}, token=account_key, headers=headers)

    key_id = answer.json()["key"]["keyId"]
    (event,) = authority.operator.list_audit_events(subject=key_id)
    assert event.request_id == answer.header("x-request-id")
    assert (event.request_id == request_id) is is_kept


def test_what_is_answered_is_not_to_be_stored(gateway: Gateway, account_key: str) -> None:
    """Some answers hold a key or a session, which any cache on the way would keep."""
    account = {"keyspace": "xquik", "email": "d@example.com", "password": "correct horse d"}
    for answer in (
        gateway.call("POST", "/v1/keys", {}, token=account_key),
        gateway.call("POST", "/v1/accounts:logIn", account),
        gateway.call("GET", "/v1/whoami", token=account_key),
        gateway.call("GET", "/v1/whoami"),
        gateway.send("GET", "/v1/whoami", [("Cookie", f"session_token={account_key}")]),
        gateway.send("GET", "/v1/whoami", [("X-API-Key", account_key)]),
    ):
        assert answer.header("cache-control") == "no-store"


def test_pages_of_other_origins_may_not_call_unless_it_is_said(
    gateway: Gateway, authority: Authority, account_key: str, tmp_path: Path
) -> None:
    preflight = [
        CORS,
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization"),
    ]
    closed = gateway.send("OPTIONS", "/v1/keys", preflight)
    assert closed.header("access-control-allow-origin") is None
    opened = Gateway(
        tmp_path, authority.port, {"KEYFENCE_GATEWAY_CORS_ORIGINS": "https://app.example.com"}
    )
    try:
        allowed = opened.send("OPTIONS", "/v1/keys", preflight)
        called = opened.call("GET", "/v1/whoami", token=account_key, headers=[CORS])
        other = opened.call(
            "GET", "/v1/whoami", token=account_key, headers=[("Origin", "https://evil.example.com")]
        )
    finally:
        opened.stop()

    assert allowed.status == 200
    assert allowed.header("access-control-allow-origin") == "https://app.example.com"
    assert allowed.header("access-control-allow-credentials") is None
    assert called.header("access-control-allow-origin") == "https://app.example.com"
    assert other.header("access-control-allow-origin") is None


def test_it_stops_when_told_and_says_why_it_cannot_start(
    authority: Authority, gateway: Gateway, tmp_path: Path
) -> None:
    running = Gateway(tmp_path, authority.port)
    assert running.stop() == 0

    for settings, reason in (
        ({"KEYFENCE_GATEWAY_LISTN": "127.0.0.1:0"}, "did you mean KEYFENCE_GATEWAY_LISTEN"),
        ({"KEYFENCE_GATEWAY_LISTEN": "0.0.0.0:0"}, "KEYFENCE_GATEWAY_TLS_CERT_FILE"),
        ({"KEYFENCE_GATEWAY_LISTEN": f"127.0.0.1:{gateway.port}"}, "Envoy ended before it served"),
        (
            {"KEYFENCE_GATEWAY_COOKIE": "a", "KEYFENCE_GATEWAY_CORS_ORIGINS": "https://a.b"},
            "exclude each other",
        ),
    ):
        ended = subprocess.run(
            [*COMMAND, "gateway"],
            env=environment_without_settings(settings),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert ended.returncode != 0
        assert reason in ended.stderr, ended.stderr
