"""Error statuses: each of the documented reasons, as its comment in the proto says."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from keyfence.v1 import (
    authorization_service_pb2,
    error_reason_pb2,
    key_service_pb2,
    keyspace_pb2,
    rate_limit_pb2,
)
from keyfence_server.composition.authority import Authority
from keyfence_server.domain.errors import InvalidInput, Problem
from keyfence_server.rpc.status import (
    CODE_BY_REASON,
    SHUTTING_DOWN,
    STORE_UNAVAILABLE,
    failure_of,
)
from support.clock import FrozenClock
from support.serving import METHODS, PASSWORD, Refusal, Served, path_of

REASONS = [name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.keys()[1:]]
Scenario = Callable[[Served], Awaitable[Refusal]]


@dataclass(frozen=True)
class Case:
    """How to get an error, and what it should say."""

    reason: str
    code: grpc.StatusCode
    scenario: Scenario
    metadata: tuple[str, ...] = ()


def refused(rpc: str, /, **arguments: Any) -> Scenario:
    """The call alone is enough."""

    async def scenario(served: Served) -> Refusal:
        return await served.client.refusal(rpc, **arguments)

    return scenario


async def lacking_a_scope(served: Served) -> Refusal:
    credential = await served.client.make_operator("keys:check")
    return await served.client.refusal("ListKeys", credential=credential)


async def not_bound(served: Served) -> Refusal:
    await served.client.apply("other")
    credential = await served.client.make_operator("keys:read", bound=["demo"])
    return await served.client.refusal("ListKeys", keyspace="other", credential=credential)


async def exceeding(served: Served) -> Refusal:
    maker = await served.client.make_key(scopes=["vps:read"])
    return await served.client.refusal("CreateKey", scopes=["vps:write"], credential=maker.api_key)


async def of_a_type_that_may_not(served: Served) -> Refusal:
    types = [
        keyspace_pb2.KeyType(name="secret", manages_keys=True),
        keyspace_pb2.KeyType(name="publishable"),
    ]
    await served.client.apply(key_types=types)
    maker = await served.client.make_key(key_type="publishable")
    return await served.client.refusal("CreateKey", credential=maker.api_key)


async def unknown_scope(served: Served) -> Refusal:
    key = await served.client.make_key()
    return await served.client.refusal(
        "CheckScope", api_key=key.api_key, keyspace="demo", required_scopes=["vps:reed"]
    )


async def done_before(served: Served) -> Refusal:
    await served.client.make_key(request_id="once")
    return await served.client.refusal(
        "CreateKey", keyspace="demo", account_id="acct_1", request_id="once"
    )


async def revoked(served: Served) -> Refusal:
    key = await served.client.make_key()
    await served.client.call("RevokeKey", key_id=key.key.key_id)
    return await served.client.refusal("RotateKey", key_id=key.key.key_id)


async def rotated(served: Served) -> Refusal:
    key = await served.client.make_key()
    overlap = Duration(seconds=60)
    await served.client.call("RotateKey", key_id=key.key.key_id, overlap=overlap)
    return await served.client.refusal("RotateKey", key_id=key.key.key_id)


async def changed(served: Served) -> Refusal:
    key = await served.client.make_key()
    return await served.client.refusal(
        "UpdateKey",
        key=key_service_pb2.Key(key_id=key.key.key_id, display_name="Other"),
        update_mask=FieldMask(paths=["display_name"]),
        if_revision=key.key.revision + 1,
    )


async def still_in_use(served: Served) -> Refusal:
    places = [keyspace_pb2.Environment(name="live"), keyspace_pb2.Environment(name="test")]
    await served.client.apply("busy", environments=places)
    await served.client.make_key("busy", environment="test")
    return await served.client.refusal(
        "ApplyKeyspace",
        keyspace=keyspace_pb2.Keyspace(name="busy", environments=places[:1]),
    )


async def limit_reached(served: Served) -> Refusal:
    gate = served.server._gate
    gate.limit = 0
    try:
        return await served.client.refusal("WhoAmI")
    finally:
        gate.limit = 100


async def store_unavailable(served: Served) -> Refusal:
    served.server._gate.shut(STORE_UNAVAILABLE)
    try:
        return await served.client.refusal("WhoAmI")
    finally:
        served.server._gate.open(after=STORE_UNAVAILABLE)


async def shutting_down(served: Served) -> Refusal:
    served.server._gate.shut(SHUTTING_DOWN)
    try:
        return await served.client.refusal("WhoAmI")
    finally:
        served.server._gate.open(after=SHUTTING_DOWN)


async def too_deep(served: Served) -> Refusal:
    parent = await served.client.make_key()
    for _ in range(3):
        parent = await served.client.make_key(parent_key_id=parent.key.key_id)
    return await served.client.refusal(
        "CreateKey",
        keyspace="demo",
        account_id="acct_1",
        parent_key_id=parent.key.key_id,
    )


async def last_operator(served: Served) -> Refusal:
    me = await served.client.call("WhoAmI")
    return await served.client.refusal("RevokeKey", key_id=me.principal.key_id)


async def with_accounts(served: Served, registration: Any = keyspace_pb2.REGISTRATION_OPEN) -> None:
    await served.client.apply(accounts=keyspace_pb2.Accounts(registration=registration))


async def registration_closed(served: Served) -> Refusal:
    await with_accounts(served, keyspace_pb2.REGISTRATION_CLOSED)
    return await served.client.refusal("RegisterAccount", keyspace="demo", credential=None)


async def email_taken(served: Served) -> Refusal:
    await with_accounts(served)
    await served.client.register("a@example.com")
    return await served.client.refusal(
        "RegisterAccount", keyspace="demo", email="A@example.com", password=PASSWORD
    )


async def log_in_failed(served: Served) -> Refusal:
    await with_accounts(served)
    return await served.client.refusal(
        "LogIn", keyspace="demo", email="a@example.com", password="wrong", credential=None
    )


async def account_is_disabled(served: Served) -> Refusal:
    await with_accounts(served)
    account = await served.client.register()
    await served.client.call("DisableAccount", account_id=account.account_id)
    return await served.client.refusal(
        "LogIn", keyspace="demo", email=account.email, password=PASSWORD, credential=None
    )


async def too_many_attempts(served: Served) -> Refusal:
    await with_accounts(served)
    for number in range(20):
        await served.client.register(f"a{number}@example.com")
    return await served.client.refusal(
        "RegisterAccount",
        keyspace="demo",
        email="b@example.com",
        password=PASSWORD,
        credential=None,
    )


async def quota_reached(served: Served) -> Refusal:
    minute = Duration(seconds=60)
    rate = rate_limit_pb2.RateLimit(requests=1, window=minute)
    await served.client.apply(limits=keyspace_pb2.Limits(changes_per_account=rate))
    key = await served.client.make_key()
    await served.client.call("CreateKey", credential=key.api_key)
    return await served.client.refusal("CreateKey", credential=key.api_key)


async def session_required(served: Served) -> Refusal:
    key = await served.client.make_key()
    return await served.client.refusal("GetAccount", credential=key.api_key)


async def password_rejected(served: Served) -> Refusal:
    await with_accounts(served)
    await served.client.register()
    return await served.client.refusal(
        "UpdateAccount", new_password="another good one", credential=await served.client.log_in()
    )


async def unknown_method(served: Served) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.client.call_raw("/keyfence.v1.KeyService/Nothing", b"")
    return Refusal.of(caught.value)


async def a_fault_of_ours(served: Served) -> Refusal:
    backend = served.server._backend
    assert isinstance(backend, Authority)
    clock = backend._mutations._clock
    assert isinstance(clock, ClockThatBreaks)
    clock.broken = True
    try:
        return await served.client.refusal("WhoAmI")
    finally:
        clock.broken = False


CODE = grpc.StatusCode
CASES = [
    Case("CREDENTIAL_REQUIRED", CODE.UNAUTHENTICATED, refused("WhoAmI", credential=None)),
    Case("CREDENTIAL_REJECTED", CODE.UNAUTHENTICATED, refused("WhoAmI", credential="x")),
    Case("SCOPE_REQUIRED", CODE.PERMISSION_DENIED, lacking_a_scope, ("required_scope", "method")),
    Case("KEYSPACE_NOT_BOUND", CODE.PERMISSION_DENIED, not_bound, ("keyspace",)),
    Case("EXCEEDS_MAKER", CODE.PERMISSION_DENIED, exceeding, ("exceeds",)),
    Case("KEY_TYPE_MAY_NOT_MANAGE", CODE.PERMISSION_DENIED, of_a_type_that_may_not, ("key_type",)),
    Case("INVALID_FIELD", CODE.INVALID_ARGUMENT, refused("CreateKey")),
    Case("UNKNOWN_SCOPE", CODE.INVALID_ARGUMENT, unknown_scope, ("scope", "keyspace", "nearest")),
    Case("INVALID_KEYSPACE", CODE.INVALID_ARGUMENT, refused("ApplyKeyspace")),
    Case("KEY_NOT_FOUND", CODE.NOT_FOUND, refused("GetKey", key_id="key_0"), ("key_id",)),
    Case("KEYSPACE_NOT_FOUND", CODE.NOT_FOUND, refused("GetKeyspace", name="none"), ("keyspace",)),
    Case("REQUEST_ALREADY_DONE", CODE.ALREADY_EXISTS, done_before, ("key_id",)),
    Case("KEY_IS_REVOKED", CODE.FAILED_PRECONDITION, revoked, ("key_id",)),
    Case("KEY_IS_ROTATED", CODE.FAILED_PRECONDITION, rotated, ("key_id", "successor_key_id")),
    Case("REVISION_CHANGED", CODE.ABORTED, changed, ("revision",)),
    Case("STILL_IN_USE", CODE.FAILED_PRECONDITION, still_in_use, ("environment", "keys")),
    Case("LIMIT_REACHED", CODE.RESOURCE_EXHAUSTED, limit_reached, ("limit",)),
    Case("STORE_UNAVAILABLE", CODE.UNAVAILABLE, store_unavailable),
    Case(
        "REVISION_NOT_REACHED",
        CODE.UNAVAILABLE,
        refused("Authenticate", api_key="x", at_least_revision=10**12),
        ("revision",),
    ),
    Case("SHUTTING_DOWN", CODE.UNAVAILABLE, shutting_down),
    Case("INTERNAL", CODE.INTERNAL, a_fault_of_ours, ("request_id",)),
    Case("DELEGATION_TOO_DEEP", CODE.FAILED_PRECONDITION, too_deep, ("limit",)),
    Case(
        "KEYSPACE_IS_BUILT_IN",
        CODE.FAILED_PRECONDITION,
        refused("ApplyKeyspace", keyspace=keyspace_pb2.Keyspace(name="system")),
        ("keyspace",),
    ),
    Case("METHOD_UNKNOWN", CODE.UNIMPLEMENTED, unknown_method),
    Case("LAST_OPERATOR", CODE.FAILED_PRECONDITION, last_operator),
    Case("REGISTRATION_CLOSED", CODE.PERMISSION_DENIED, registration_closed, ("keyspace",)),
    Case("EMAIL_TAKEN", CODE.ALREADY_EXISTS, email_taken),
    Case("LOG_IN_FAILED", CODE.UNAUTHENTICATED, log_in_failed),
    Case("ACCOUNT_NOT_FOUND", CODE.NOT_FOUND, refused("GetAccount", account_id="usr_0")),
    Case("ACCOUNT_IS_DISABLED", CODE.FAILED_PRECONDITION, account_is_disabled, ("account_id",)),
    Case("TOO_MANY_ATTEMPTS", CODE.RESOURCE_EXHAUSTED, too_many_attempts, ("retry_after_seconds",)),
    Case(
        "QUOTA_REACHED",
        CODE.RESOURCE_EXHAUSTED,
        quota_reached,
        ("quota", "limit", "retry_after_seconds"),
    ),
    Case("SESSION_REQUIRED", CODE.PERMISSION_DENIED, session_required),
    Case("PASSWORD_REJECTED", CODE.PERMISSION_DENIED, password_rejected),
]


# What needs a server that is set up in another way has its test beside others of the kind.
ELSEWHERE = {"SESSIONS_NOT_SET_UP", "RATE_LIMITS_UNAVAILABLE", "PROTOCOL_VERSION_UNSUPPORTED"}


class ClockThatBreaks(FrozenClock):
    """A clock that fails when it is told to, with a secret at hand."""

    broken = False

    def timestamp(self) -> float:
        canary = "canary_in_a_local_variable_7Hq2mXcV"
        if self.broken:
            raise RuntimeError("the clock fell down, and " + canary[:6])
        return super().timestamp()


def test_every_documented_reason_has_a_code_and_a_case() -> None:
    assert set(CODE_BY_REASON) == set(REASONS)
    assert [case.reason for case in CASES if case.reason not in REASONS] == []
    assert set(REASONS) - {case.reason for case in CASES} == ELSEWHERE


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.reason)
async def test_a_reason_comes_with_its_code_and_metadata(case: Case, serve: Any) -> None:
    served = await serve(clock=ClockThatBreaks())
    await served.client.apply()
    refusal = await case.scenario(served)
    assert (refusal.reason, refusal.code) == (case.reason, case.code)
    assert set(refusal.metadata) >= set(case.metadata)
    assert refusal.message
    if case.reason in {"INVALID_FIELD", "UNKNOWN_SCOPE", "INVALID_KEYSPACE"}:
        assert refusal.violations
        assert all(path and description for path, description in refusal.violations)


async def test_a_fault_of_ours_says_where_to_look_and_nothing_else(
    serve: Any, log: io.StringIO
) -> None:
    served = await serve(clock=ClockThatBreaks())
    refusal = await a_fault_of_ours(served)
    assert "clock" not in refusal.message
    assert refusal.metadata["request_id"] == refusal.request_id
    line = next(line for line in log.getvalue().splitlines() if "internal_error" in line)
    assert refusal.request_id in line
    assert "the clock fell down" in line
    assert "canary_in" not in line
    assert "locals" not in line


async def test_a_caller_s_request_id_is_used(served: Served) -> None:
    sent = [("x-request-id", "req-42")]
    refusal = await served.client.refusal("GetKey", key_id="key_0", metadata=sent)
    assert refusal.request_id == "req-42"


@pytest.mark.parametrize(
    "bad", ["", "a b", "x" * 65, 'req"42', "kf_live_7Hq2mXcV0bN4pLw9ZtR1yKfUoEaGsDjB0Zk3Tq"]
)
async def test_a_request_id_that_is_not_plain_is_replaced(served: Served, bad: str) -> None:
    sent = [("x-request-id", bad)]
    refusal = await served.client.refusal("GetKey", key_id="key_0", metadata=sent)
    assert refusal.request_id != bad
    assert len(refusal.request_id) == 32


async def test_a_mutation_answers_with_its_request_id(served: Served) -> None:
    call = served.client.channel.unary_unary(path_of(METHODS["CreateKey"]))(
        key_service_pb2.CreateKeyRequest(keyspace="demo", account_id="a").SerializeToString(),
        metadata=(("authorization", f"Bearer {served.client.root}"), ("x-request-id", "req-1")),
    )
    await call
    assert ("x-request-id", "req-1") in list(await call.trailing_metadata())


async def test_errors_stay_small_however_much_is_wrong(served: Served) -> None:
    """They travel as metadata, of which clients take 8 KiB by default."""
    scopes = [keyspace_pb2.Scope(name=f"Bad scope {n} “é" * 10) for n in range(5_000)]
    refusal = await served.client.refusal(
        "ApplyKeyspace", keyspace=keyspace_pb2.Keyspace(name="x" * 5_000, scopes=scopes)
    )
    assert refusal.reason == "INVALID_KEYSPACE"
    assert refusal.violations[-1][1].startswith("and ")


def test_a_status_fits_into_metadata_whatever_is_in_it() -> None:
    problems = [Problem(("é" * 10_000,), "\U0001f511" * 10_000) for _ in range(1_000)]
    error = InvalidInput(problems, keyspace="\U0001f511" * 10_000)
    status = failure_of(error).to_status()
    details = dict(status.trailing_metadata or ())["grpc-status-details-bin"]
    # Binary metadata grows by a third, text outside of ASCII by three times.
    assert len(details) * 4 / 3 + len(status.details.encode()) * 3 < 7_000


async def test_a_time_or_duration_that_is_none_is_a_wrong_field(served: Served) -> None:
    for expire_time in (Timestamp(seconds=10**15), Timestamp(nanos=-1)):
        refusal = await served.client.refusal(
            "CreateKey", keyspace="demo", account_id="a", expire_time=expire_time
        )
        assert refusal.violations[0][0] == "expire_time"
    refusal = await served.client.refusal(
        "RotateKey", key_id="key_0", overlap=Duration(seconds=10**15)
    )
    assert refusal.violations[0][0] == "overlap"


async def test_a_batch_answers_each_check_as_if_it_were_alone(served: Served) -> None:
    """In order, errors included, and equal to the single calls."""
    key = await served.client.make_key(scopes=["vps:write"])
    checks = [
        authorization_service_pb2.CheckScopeRequest(
            api_key=api_key, keyspace=keyspace, required_scopes=scopes, explain=True
        )
        for api_key in (key.api_key, key.api_key[:-1], "", "x" * 600)
        for keyspace in ("demo", "", "none")
        for scopes in (["vps:read"], ["vps:create", "vps:write"], ["vps:reed"], ["*"], [])
    ]
    batch = await served.client.call("BatchCheckScope", checks=checks)
    assert len(batch.results) == len(checks)
    for check, result in zip(checks, batch.results, strict=True):
        try:
            alone = await served.client.call("CheckScope", check)
        except grpc.aio.AioRpcError as error:
            refusal = Refusal.of(error)
            assert result.error.code == refusal.code.value[0]
            assert result.error.reason == refusal.reason
            assert dict(result.error.metadata) == refusal.metadata
        else:
            assert result.response == alone


@pytest.mark.parametrize("size", [0, 257])
async def test_a_batch_has_a_size(served: Served, size: int) -> None:
    checks = [authorization_service_pb2.CheckScopeRequest()] * size
    refusal = await served.client.refusal("BatchCheckScope", checks=checks)
    assert refusal.violations[0][0] == "checks"


async def test_a_principal_is_not_remembered_beyond_its_facts(served: Served) -> None:
    """What was answered once is not answered again when the key has changed."""
    key = await served.client.make_key(scopes=["vps:read"])
    first = await served.client.call("Authenticate", api_key=key.api_key)
    await served.client.call(
        "UpdateKey",
        key=key_service_pb2.Key(key_id=key.key.key_id, display_name="Other"),
        update_mask=FieldMask(paths=["display_name"]),
    )
    second = await served.client.call("Authenticate", api_key=key.api_key)
    assert [one.principal.display_name for one in (first, second)] == ["Default", "Other"]


async def test_a_key_s_expiry_is_told_to_the_microsecond(serve: Any) -> None:
    clock = FrozenClock()
    served = await serve(clock=clock)
    await served.client.apply()
    end = clock.now() + timedelta(microseconds=1)
    expire_time = Timestamp()
    expire_time.FromDatetime(end)
    key = await served.client.make_key(expire_time=expire_time)
    assert as_time(key.key.expire_time) == end
    before = await served.client.call("Authenticate", api_key=key.api_key)
    clock.set(end)
    after = await served.client.call("Authenticate", api_key=key.api_key)
    assert (before.authenticated, after.authenticated) == (True, False)


def as_time(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)
