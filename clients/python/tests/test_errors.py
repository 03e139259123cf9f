"""Failures become errors of one tree, with what a program needs and no secret."""

from __future__ import annotations

import pickle
import traceback
from typing import Any

import grpc
import pytest

from clients.python.tests.authority import Authority, Failure
from clients.python.tests.conftest import Caller
from keyfence import ScopeCheck, errors
from keyfence.v1 import error_reason_pb2

CODE = grpc.StatusCode
TOKEN = "kf_system_token"
CANARY = "kf_live_canary_7f3a9c"

CASES: list[tuple[Failure, type[errors.CallFailed]]] = [
    (Failure(CODE.INVALID_ARGUMENT, reason="INVALID_FIELD"), errors.InvalidRequest),
    (Failure(CODE.INVALID_ARGUMENT, reason="UNKNOWN_SCOPE"), errors.UnknownScope),
    (Failure(CODE.INVALID_ARGUMENT, reason="INVALID_KEYSPACE"), errors.InvalidKeyspace),
    (Failure(CODE.UNAUTHENTICATED, reason="CREDENTIAL_REJECTED"), errors.Unauthenticated),
    (Failure(CODE.PERMISSION_DENIED, reason="SCOPE_REQUIRED"), errors.PermissionDenied),
    (Failure(CODE.NOT_FOUND, reason="KEY_NOT_FOUND"), errors.NotFound),
    (Failure(CODE.ALREADY_EXISTS, reason="REQUEST_ALREADY_DONE"), errors.RequestAlreadyDone),
    (Failure(CODE.FAILED_PRECONDITION, reason="KEY_IS_REVOKED"), errors.FailedPrecondition),
    (Failure(CODE.ABORTED, reason="REVISION_CHANGED"), errors.RevisionChanged),
    (Failure(CODE.RESOURCE_EXHAUSTED, reason="LIMIT_REACHED"), errors.ResourceExhausted),
    (Failure(CODE.DEADLINE_EXCEEDED), errors.DeadlineExceeded),
    (Failure(CODE.UNIMPLEMENTED, reason="METHOD_UNKNOWN"), errors.Unimplemented),
    (Failure(CODE.INTERNAL, reason="INTERNAL"), errors.InternalError),
    (Failure(CODE.UNKNOWN), errors.InternalError),
    (Failure(CODE.DATA_LOSS), errors.InternalError),
    (Failure(CODE.CANCELLED), errors.Unavailable),
    (Failure(CODE.ALREADY_EXISTS), errors.AlreadyExists),
    (Failure(CODE.ABORTED), errors.Aborted),
    (Failure(CODE.NOT_FOUND, reason="A_REASON_OF_THE_FUTURE"), errors.NotFound),
]


async def failure_of(call: Caller, method: str, *args: Any) -> errors.CallFailed:
    with pytest.raises(errors.CallFailed) as caught:
        await call(method, *args)
    return caught.value


@pytest.mark.parametrize(
    ("failure", "expected"), CASES, ids=[f"{case.code.name}-{case.reason}" for case, _ in CASES]
)
async def test_status_and_reason_decide_the_error(
    call: Caller, authority: Authority, failure: Failure, expected: type[errors.CallFailed]
) -> None:
    authority.answer("UpdateKey", failure)
    error = await failure_of(call, "update_key", "key_1")
    assert type(error) is expected
    assert error.status == failure.code.name
    assert error.reason == failure.reason


async def test_every_reason_of_the_api_is_carried(call: Caller, authority: Authority) -> None:
    for name in error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name:
        reason = name.removeprefix("ERROR_REASON_")
        authority.answer("UpdateKey", Failure(CODE.FAILED_PRECONDITION, reason=reason))
        error = await failure_of(call, "update_key", "key_1")
        assert isinstance(error, errors.FailedPrecondition), "a reason overrode its status"
        assert error.reason == reason


async def test_an_error_has_what_a_program_needs(call: Caller, authority: Authority) -> None:
    authority.answer(
        "UpdateKey",
        Failure(
            CODE.INVALID_ARGUMENT,
            'keyspace "demo" has no scope "vps:reed"',
            "UNKNOWN_SCOPE",
            metadata={"scope": "vps:reed", "nearest": "vps:read"},
            violations={"key.granted_scopes[0]": "not registered"},
            trailers=(("x-request-id", "5f1c"),),
        ),
    )
    error = await failure_of(call, "update_key", "key_1")
    assert isinstance(error, errors.UnknownScope)
    assert (error.scope, error.nearest) == ("vps:reed", "vps:read")
    assert error.violations == (errors.FieldViolation("key.granted_scopes[0]", "not registered"),)
    assert error.request_id == "5f1c"
    assert error.message == 'keyspace "demo" has no scope "vps:reed"'
    assert str(error) == f"{error.message} [UNKNOWN_SCOPE, request 5f1c]"


async def test_the_request_id_may_come_with_the_reason(call: Caller, authority: Authority) -> None:
    authority.answer(
        "UpdateKey", Failure(CODE.INTERNAL, reason="INTERNAL", metadata={"request_id": "9a"})
    )
    assert (await failure_of(call, "update_key", "key_1")).request_id == "9a"


async def test_a_request_that_was_done_before_names_its_key(
    call: Caller, authority: Authority
) -> None:
    authority.answer(
        "CreateKey",
        Failure(CODE.ALREADY_EXISTS, reason="REQUEST_ALREADY_DONE", metadata={"key_id": "key_9"}),
    )
    error = await failure_of(call, "create_key")
    assert isinstance(error, errors.RequestAlreadyDone)
    assert error.key_id == "key_9"


async def test_reasons_of_another_domain_are_not_ours(call: Caller, authority: Authority) -> None:
    authority.answer(
        "UpdateKey", Failure(CODE.ABORTED, reason="REVISION_CHANGED", domain="mesh.example")
    )
    error = await failure_of(call, "update_key", "key_1")
    assert type(error) is errors.Aborted
    assert error.reason == ""


@pytest.mark.parametrize("trailer", [b"\xff\xff\xff", b"\x1a\x05\x12\x03\xff\xff\xff", b""])
async def test_broken_details_do_not_hide_the_status(
    call: Caller, authority: Authority, trailer: bytes
) -> None:
    authority.answer(
        "UpdateKey", Failure(CODE.NOT_FOUND, trailers=(("grpc-status-details-bin", trailer),))
    )
    assert isinstance(await failure_of(call, "update_key", "key_1"), errors.NotFound)


@pytest.mark.parametrize(
    ("method", "args", "wire"),
    [
        ("authenticate", (CANARY,), "Authenticate"),
        ("check_scope", (CANARY, "a:b"), "CheckScope"),
        (
            "batch_check_scope",
            ([ScopeCheck(api_key=CANARY, required_scopes=("a:b",))],),
            "BatchCheckScope",
        ),
    ],
)
async def test_no_error_shows_a_secret_even_if_the_other_side_does(
    call: Caller, authority: Authority, method: str, args: Any, wire: str
) -> None:
    """Without the redaction, a proxy that echoes requests puts keys into every log."""
    said = f"bad call with {CANARY} by Bearer {TOKEN}"
    authority.answer(
        wire,
        Failure(
            CODE.INVALID_ARGUMENT,
            said,
            reason="INVALID_FIELD",
            metadata={"echo": said, CANARY: TOKEN},
            violations={CANARY: said},
            trailers=(("x-request-id", CANARY),),
        ),
    )
    error = await failure_of(call, method, *args)
    shown = "".join(
        [
            str(error),
            repr(error),
            repr(vars(error)),
            repr(error.__context__),
            *traceback.format_exception(error),
        ]
    )
    assert "(redacted)" in shown
    assert CANARY not in shown
    assert TOKEN not in shown


async def test_errors_can_be_pickled(call: Caller, authority: Authority) -> None:
    authority.answer(
        "UpdateKey",
        Failure(CODE.ABORTED, reason="REVISION_CHANGED", metadata={"revision": "42"}),
    )
    error = await failure_of(call, "update_key", "key_1")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is errors.RevisionChanged
    assert vars(copy) == vars(error)


def test_the_tree_in_the_docs_is_the_tree_in_the_code() -> None:
    drawn = []
    for line in (errors.__doc__ or "").splitlines():
        name, _, rest = line.strip(" │├└─").partition(" ")
        if hasattr(errors, name) and ("─" in line or not rest):
            drawn.append((line.index(name) // 4, name))
    parents: dict[int, str] = {}
    for depth, name in drawn:
        parents[depth] = name
        base = getattr(errors, name).__bases__[0].__name__
        assert base == parents.get(depth - 1, "Exception"), name
    kinds = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert {name for _, name in drawn} == kinds
