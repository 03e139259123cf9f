"""The guard for HTTP services: without a framework, and in FastAPI."""

import json
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

import grpc
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, WebSocket
from starlette.applications import Starlette

from clients.python.tests.authority import (
    NOON,
    UNAVAILABLE,
    Authority,
    Failure,
    a_key,
    a_principal,
    allowed,
    denied,
    timestamp,
)
from keyfence import AsyncClient, Batching, Cache, ConfigurationError, Principal
from keyfence import asgi as framework_free
from keyfence.asgi import GuardMiddleware
from keyfence.fastapi import Guard, KeyOwner
from keyfence.v1 import (
    authorization_service_pb2,
    http_answers_pb2,
    key_service_pb2,
    keyspace_pb2,
    keyspace_service_pb2,
    rate_limit_pb2,
    reason_pb2,
)

KEY = "kf_live_canary_7f3a9c"
BEARER = ("authorization", f"Bearer {KEY}")
UNKNOWN_SCOPE = Failure(
    grpc.StatusCode.INVALID_ARGUMENT,
    "no such scope",
    "UNKNOWN_SCOPE",
    {"scope": "vps:raed", "nearest": "vps:read"},
)


@dataclass
class Response:
    """What an application has sent."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


async def send(
    app: Any,
    method: str = "GET",
    path: str = "/",
    headers: Sequence[tuple[str, str]] = (),
    body: object = None,
    *,
    kind: str = "http",
) -> Response:
    """Sends a request to an ASGI application."""
    sent: list[Any] = []
    received: list[str] = []
    content = b"" if body is None else json.dumps(body).encode()
    if body is not None:
        headers = [*headers, ("content-type", "application/json")]

    async def receive() -> Any:
        received.append(kind)
        if len(received) > 1:
            return {"type": f"{kind}.disconnect", "code": 1000}
        if kind == "websocket":
            return {"type": "websocket.connect"}
        return {"type": "http.request", "body": content, "more_body": False}

    async def take(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": kind,
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "scheme": "http" if kind == "http" else "ws",
        "subprotocols": [],
        "server": ("127.0.0.1", 80),
        "client": ("192.0.2.7", 1234),
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "state": {},
    }
    await app(scope, receive, take)
    if kind == "websocket":
        return Response(sent[0].get("code", 0), {"type": sent[0]["type"]}, b"")
    start, *rest = sent
    names = [name for name, _ in start["headers"]]
    assert len(set(names)) == len(names), names
    return Response(
        start["status"],
        {name.decode(): value.decode() for name, value in start["headers"]},
        b"".join(message.get("body", b"") for message in rest),
    )


@pytest.fixture
async def client(authority: Authority) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(authority.target, token="kf_system_token") as asking:
        yield asking


@pytest.fixture
def guard(client: AsyncClient) -> Guard:
    return Guard(client, keyspace="demo", unguarded=["/health"])


async def echo(scope: Any, receive: Any, send_on: Any) -> None:
    """Answers with the headers that it got."""
    names = [name.decode() for name, _ in scope["headers"]]
    await send_on({"type": "http.response.start", "status": 200, "headers": []})
    await send_on({"type": "http.response.body", "body": json.dumps(names).encode()})


def shop(guard: Guard) -> FastAPI:
    app = FastAPI(openapi_url=None, lifespan=guard.lifespan)
    guard.install(app)

    @app.get("/servers")
    async def servers(caller: Annotated[Principal, guard.requires("vps:read")]) -> dict[str, str]:
        return {"account": caller.account_id}

    @app.get("/me")
    async def me(request: Request, caller: Annotated[Principal, guard.requires()]) -> list[str]:
        return list(request.headers)

    @app.get("/health")
    async def health() -> str:
        return "well"

    @app.websocket("/live")
    async def live(
        socket: WebSocket, caller: Annotated[Principal, guard.requires("vps:read")]
    ) -> None:
        await socket.accept()

    return app


# --- the middleware alone -------------------------------------------------------------


async def test_every_request_needs_a_good_key_unless_its_path_is_unguarded(
    client: AsyncClient, authority: Authority
) -> None:
    guard = framework_free.Guard(client, keyspace="demo", unguarded=["/health/"])
    app = GuardMiddleware(echo, guard)

    assert (await send(app)).status == 401
    assert (await send(app, path="/healthy")).status == 401
    assert (await send(app, path="/health/../servers")).status == 401
    assert (await send(app, path="/health")).status == 200
    assert (await send(app, path="/health/live")).status == 200
    assert authority.attempts_of("Authenticate") == []
    assert (await send(app, headers=[BEARER])).status == 200
    assert authority.last.request.client_address == "192.0.2.7"
    assert authority.last.request.keyspace == "demo"


async def test_the_application_does_not_see_the_credential(client: AsyncClient) -> None:
    app = GuardMiddleware(echo, framework_free.Guard(client, keyspace="demo"))
    seen = await send(app, headers=[BEARER, ("accept", "a/b")])
    assert seen.json() == ["accept"]


async def test_the_scopes_of_a_middleware_are_asked_for(
    client: AsyncClient, authority: Authority
) -> None:
    guard = framework_free.Guard(client, keyspace="demo")
    app = GuardMiddleware(echo, guard, scopes=["vps:read", "vps:write"])
    authority.answer("CheckScope", denied(reason_pb2.REASON_SCOPE_MISSING, ["vps:write"]))

    assert (await send(app, headers=[BEARER])).status == 403
    assert authority.last.request.required_scopes == ["vps:read", "vps:write"]


async def test_a_handler_without_the_middleware_makes_no_call(
    client: AsyncClient, authority: Authority
) -> None:
    guard = framework_free.Guard(client, keyspace="demo")
    with pytest.raises(ConfigurationError, match="middleware"):
        await guard.admit({"type": "http", "headers": []})
    assert authority.attempts == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"keyspace": ""},
        {"keyspace": "demo", "unguarded": "/x"},
        {"keyspace": "demo", "unguarded": ["/"]},
        {"keyspace": "demo", "unguarded": [""]},
        {"keyspace": "demo", "unguarded": ["health"]},
    ],
    ids=str,
)
def test_a_guard_that_would_let_too_much_through_cannot_be_made(
    client: AsyncClient, wrong: dict[str, Any]
) -> None:
    with pytest.raises((ConfigurationError, TypeError)):
        framework_free.Guard(client, **wrong)


# --- answers --------------------------------------------------------------------------


async def test_denials_are_what_the_keyspace_declares(guard: Guard, authority: Authority) -> None:
    http = http_answers_pb2.HttpAnswers(
        answers=[
            http_answers_pb2.HttpAnswer(cause="unauthenticated", code="NO", message="No."),
            http_answers_pb2.HttpAnswer(cause="scope_missing", message="lacks {missing_scopes}"),
        ],
        body='{"status": "{status}", "code": "{code}", "message": "{message}"}',
        credentials=http_answers_pb2.HttpCredentials(cookie="sid"),
    )
    declared = keyspace_pb2.Keyspace(name="demo", http=http)
    authority.answer("GetKeyspace", keyspace_service_pb2.GetKeyspaceResponse(keyspace=declared))
    app = shop(guard)

    missing = await send(app, path="/servers", headers=[BEARER])
    assert (missing.status, missing.json()) == (
        401,
        {"status": 401, "code": "NO", "message": "No."},
    )
    assert missing.headers["cache-control"] == "no-store"
    authority.answer("CheckScope", denied(reason_pb2.REASON_SCOPE_MISSING, ["vps:read"]))
    lacking = await send(app, path="/servers", headers=[("cookie", f"a=b; sid={KEY}")])
    assert lacking.json()["message"] == "lacks vps:read"
    assert (await send(app, path="/nowhere")).json() == {
        "status": 404,
        "code": "not_found",
        "message": "Not Found",
    }


async def test_a_rate_limit_is_told_to_holders_of_good_keys_and_to_no_others(
    guard: Guard, authority: Authority
) -> None:
    status = rate_limit_pb2.RateLimitStatus(limit=60, remaining=0, reset_time=timestamp(NOON))
    status.window.FromTimedelta(timedelta(minutes=1))
    limited = denied(reason_pb2.REASON_RATE_LIMITED)
    limited.rate_limit.CopyFrom(status)
    limited.rate_limit.retry_after.FromTimedelta(timedelta(seconds=17))
    revoked = denied(reason_pb2.REASON_KEY_REVOKED)
    revoked.rate_limit.CopyFrom(status)
    authority.answer("CheckScope", allowed(rate_limit=status), limited, revoked)
    app = shop(guard)
    passed, throttled, refused = [
        await send(app, path="/servers", headers=[BEARER]) for _ in range(3)
    ]
    for answer in (passed, throttled):
        assert answer.headers["x-ratelimit-limit"] == "60"
        assert answer.headers["x-ratelimit-remaining"] == "0"
        assert answer.headers["x-ratelimit-reset"] == str(int(NOON.timestamp()))
    assert (throttled.status, throttled.headers["retry-after"]) == (429, "17")
    assert "retry-after" not in passed.headers
    assert refused.status == 401
    assert not any(name.startswith("x-ratelimit") for name in refused.headers)


@pytest.mark.parametrize(
    ("failure", "status"),
    [(UNAVAILABLE, 503), (Failure(grpc.StatusCode.UNAUTHENTICATED, "no"), 500)],
)
async def test_no_verdict_is_no_denial(
    guard: Guard, authority: Authority, failure: Failure, status: int
) -> None:
    authority.answer("CheckScope", *[failure] * 4)
    answer = await send(shop(guard), path="/servers", headers=[BEARER])
    assert answer.status == status
    assert "www-authenticate" not in answer.headers


async def test_no_log_line_and_no_repr_shows_a_credential(
    client: AsyncClient, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    guard = framework_free.Guard(client, keyspace="demo")
    caplog.set_level(logging.DEBUG)
    authority.answer(
        "Authenticate", Failure(grpc.StatusCode.INTERNAL, f"cannot read {KEY}", "INTERNAL")
    )
    seen: list[Any] = []

    async def look(scope: Any, receive: Any, send_on: Any) -> None:
        seen.append(guard.request_in(scope))
        await guard.admit(scope)

    app = GuardMiddleware(look, guard, scopes=None)
    assert (await send(app, headers=[BEARER])).status == 500
    assert "no verdict" in caplog.text
    assert KEY not in caplog.text
    assert KEY not in repr(seen)


async def test_an_answer_that_has_begun_is_not_followed_by_another(client: AsyncClient) -> None:
    guard = framework_free.Guard(client, keyspace="demo")

    async def late(scope: Any, receive: Any, send_on: Any) -> None:
        await send_on({"type": "http.response.start", "status": 200, "headers": []})
        raise guard.error(scope, 403)

    with pytest.raises(framework_free.Denied):
        await send(GuardMiddleware(late, guard), headers=[BEARER])


# --- FastAPI --------------------------------------------------------------------------


async def test_a_handler_runs_for_who_may_and_knows_who_that_is(
    guard: Guard, authority: Authority
) -> None:
    app = shop(guard)
    answer = await send(app, path="/servers", headers=[BEARER])
    assert (answer.status, answer.json()) == (200, {"account": "acct_1"})
    assert authority.last.request.required_scopes == ["vps:read"]
    assert (await send(app, path="/servers")).status == 401
    assert (await send(app, path="/health")).json() == "well"
    assert "authorization" not in (await send(app, path="/me", headers=[BEARER])).json()


async def test_a_socket_is_closed_before_it_is_accepted(guard: Guard, authority: Authority) -> None:
    app = shop(guard)
    refused = await send(app, path="/live", kind="websocket")
    assert (refused.headers["type"], refused.status) == ("websocket.close", 1008)
    accepted = await send(app, path="/live", headers=[BEARER], kind="websocket")
    assert accepted.headers["type"] == "websocket.accept"


async def test_an_application_with_a_route_that_says_nothing_does_not_start(guard: Guard) -> None:
    app = shop(guard)
    inner = APIRouter(prefix="/admin")

    @inner.get("/users")
    async def users() -> str:
        return "all"

    app.include_router(inner)
    app.mount("/static", Starlette())
    with pytest.raises(ConfigurationError, match=r"/admin/users, /static\."):
        async with guard.lifespan(app):
            pass


async def test_a_route_that_says_nothing_is_not_served_without_a_lifespan_either(
    guard: Guard,
) -> None:
    app = shop(guard)

    @app.get("/users")
    async def users() -> str:
        return "all"

    assert (await send(app, path="/users", headers=[BEARER])).status == 500


async def test_a_router_may_say_it_for_its_routes(guard: Guard) -> None:
    app = shop(guard)
    inner = APIRouter(prefix="/admin", dependencies=[guard.requires("vps:write")])

    @inner.get("/users")
    async def users() -> str:
        return "all"

    app.include_router(inner)
    async with guard.lifespan(app):
        assert (await send(app, path="/admin/users")).status == 401


async def test_an_application_that_names_an_unregistered_scope_does_not_start(
    guard: Guard, authority: Authority
) -> None:
    app = shop(guard)
    authority.answer("ExplainScope", UNKNOWN_SCOPE)
    with pytest.raises(ConfigurationError, match=r"'vps:raed'.*did you mean 'vps:read'"):
        async with guard.lifespan(app):
            pass


async def test_without_a_lifespan_the_first_request_verifies_and_lets_nothing_through(
    guard: Guard, authority: Authority
) -> None:
    app = shop(guard)
    authority.answer("ExplainScope", UNKNOWN_SCOPE, UNKNOWN_SCOPE)
    for _ in range(2):
        assert (await send(app, path="/servers", headers=[BEARER])).status == 500
    assert authority.attempts_of("CheckScope") == []
    assert (await send(app, path="/servers", headers=[BEARER])).status == 200


# --- keys -----------------------------------------------------------------------------


def with_keys(guard: Guard, **more: Any) -> FastAPI:
    app = shop(guard)
    app.include_router(
        guard.key_routes(
            "/keys",
            takes={"title": "display_name", "until": "expire_time"},
            required=["title"],
            shows={"id": "key_id", "title": "display_name", "made": "create_time"},
            plaintext="secret",
            envelope="data",
            **more,
        )
    )
    return app


async def test_keys_are_managed_in_the_callers_name_and_the_products_words(
    guard: Guard, authority: Authority
) -> None:
    app = with_keys(guard, timespec="milliseconds")
    made = await send(app, "POST", "/keys", [BEARER], {"title": "CI", "until": "2030-01-02T00:00Z"})
    assert authority.last.metadata["authorization"] == f"Bearer {KEY}"
    assert authority.last.metadata["x-forwarded-for"] == "192.0.2.7"
    assert authority.last.request.display_name == "CI"
    assert authority.last.request.account_id == ""
    assert (made.status, made.headers["cache-control"]) == (201, "no-store")
    assert made.json() == {
        "data": {
            "id": "key_1",
            "title": "",
            "made": "2030-01-01T12:00:00.000Z",
            "secret": "kf_live_plaintext",
        }
    }
    listed = await send(app, path="/keys", headers=[BEARER])
    assert [list(one) for one in listed.json()["data"]] == [["id", "title", "made"]]
    gone = await send(app, "DELETE", "/keys/key_1", [BEARER])
    assert (gone.status, gone.body) == (204, b"")
    assert authority.last.request.key_id == "key_1"


async def test_a_credential_of_another_keyspace_manages_nothing(
    guard: Guard, authority: Authority
) -> None:
    """An operator's, above all: the service is no way to Keyfence for the finder of one."""
    app = with_keys(guard)
    for method, path in (("POST", "/keys"), ("GET", "/keys"), ("DELETE", "/keys/key_1")):
        stranger = authorization_service_pb2.WhoAmIResponse(
            principal=a_principal(keyspace="system")
        )
        authority.answer("WhoAmI", stranger)
        answer = await send(app, method, path, [BEARER], {"title": "CI"})
        assert answer.status == 401
    assert {attempt.method for attempt in authority.attempts} == {
        "GetKeyspace",
        "ExplainScope",
        "WhoAmI",
    }


@pytest.mark.parametrize(
    ("failure", "status", "told"),
    [
        (Failure(grpc.StatusCode.UNAUTHENTICATED, "no", "CREDENTIAL_REJECTED"), 401, "not valid"),
        (Failure(grpc.StatusCode.PERMISSION_DENIED, "no"), 403, "may not"),
        (
            Failure(
                grpc.StatusCode.INVALID_ARGUMENT,
                "no",
                "INVALID_FIELD",
                violations={"display_name": "at most 10 characters"},
            ),
            400,
            "title: at most 10 characters",
        ),
        (
            Failure(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "no",
                "QUOTA_REACHED",
                {"retry_after_seconds": "60"},
            ),
            429,
            "Too many",
        ),
        (Failure(grpc.StatusCode.INTERNAL, "secrets"), 500, "could not be checked"),
    ],
)
async def test_what_keyfence_refuses_the_product_refuses(
    guard: Guard, authority: Authority, failure: Failure, status: int, told: str
) -> None:
    authority.answer("CreateKey", failure)
    answer = await send(with_keys(guard), "POST", "/keys", [BEARER], {"title": "CI"})
    assert answer.status == status
    assert told in answer.json()["error_description"]
    assert answer.headers.get("retry-after") == ("60" if status == 429 else None)


async def test_a_request_for_a_key_must_have_what_is_required(
    guard: Guard, authority: Authority
) -> None:
    app = with_keys(guard)
    answer = await send(app, "POST", "/keys", [BEARER], {"name": "CI"})
    assert (answer.status, answer.json()["error_description"]) == (400, "title: Field required")
    assert (await send(app, "POST", "/keys", [], {"title": "CI"})).status == 401
    assert authority.attempts_of("CreateKey") == []


async def test_with_an_operators_credential_an_account_reaches_its_own_keys_alone(
    guard: Guard, authority: Authority
) -> None:
    async def signed_in() -> KeyOwner:
        return KeyOwner(guard.client, account_id="acct_1")

    app = with_keys(guard, owner=Depends(signed_in))
    for strange in (a_key(account_id="acct_2"), a_key(account_id="acct_1", keyspace="other")):
        authority.answer("GetKey", key_service_pb2.GetKeyResponse(key=strange))
        assert (await send(app, "DELETE", "/keys/key_1")).status == 404
    assert authority.attempts_of("RevokeKey") == []
    own = key_service_pb2.GetKeyResponse(key=a_key(account_id="acct_1"))
    authority.answer("GetKey", own)
    assert (await send(app, "DELETE", "/keys/key_1")).status == 204
    await send(app, "POST", "/keys", [], {"title": "CI"})
    assert authority.last.request.account_id == "acct_1"
    await send(app, path="/keys")
    assert (authority.last.request.account_id, authority.last.request.keyspace) == (
        "acct_1",
        "demo",
    )


def test_a_field_that_a_key_does_not_have_is_a_mistake(guard: Guard) -> None:
    with pytest.raises(ConfigurationError, match="labels"):
        guard.key_routes("/keys", takes={"tags": "labels"}, shows={}, plaintext="key")


async def test_every_call_of_an_acting_client_presents_its_own_credential(
    authority: Authority,
) -> None:
    async with AsyncClient(
        authority.target, token="kf_system_token", cache=Cache(), batching=Batching()
    ) as client:
        acting = client.acting_as(KEY, client_address="192.0.2.7")
        await acting.check_scope("kf_live_other", "vps:read")
        await acting.create_key()
        await acting.close()
        sent = [
            (attempt.metadata.get("authorization"), attempt.metadata.get("x-forwarded-for"))
            for attempt in authority.attempts
        ]
        assert sent == [(f"Bearer {KEY}", "192.0.2.7")] * 2
        await client.create_key()
    assert authority.last.metadata["authorization"] == "Bearer kf_system_token"


async def test_a_client_without_a_credential_ignores_the_environment(
    client: AsyncClient, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYFENCE_TOKEN", "kf_system_of_the_environment")
    await client.acting_as(None).get_account()
    assert "authorization" not in authority.last.metadata
    assert a_principal().account_id == "acct_1"
