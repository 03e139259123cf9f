"""What is sent again, what never is, and that two keys are never made for one call."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import pytest

from clients.python.tests.authority import UNAVAILABLE, Authority, Failure, Hang, usual
from clients.python.tests.conftest import Caller
from keyfence import (
    ConfigurationError,
    DeadlineExceeded,
    RequestAlreadyDone,
    ScopeCheck,
    Unavailable,
    connection,
)
from keyfence.v1 import keyspace_pb2

REPEATED: dict[str, tuple[str, tuple[Any, ...]]] = {
    "Authenticate": ("authenticate", ("k",)),
    "CheckScope": ("check_scope", ("k", "a:b")),
    "BatchCheckScope": (
        "batch_check_scope",
        ([ScopeCheck(api_key="k", required_scopes=("a:b",))],),
    ),
    "WhoAmI": ("who_am_i", ()),
    "CreateKey": ("create_key", ()),
    "GetKey": ("get_key", ("key_1",)),
    "GetKeyUsage": ("get_key_usage", ("key_1",)),
    "VerifyAuditEvents": ("verify_audit_events", ()),
    "ExportAuditEvents": ("export_audit_events", ()),
    "RecordAuditExport": ("record_audit_export", (0, 1, bytes(32))),
    "RotateKey": ("rotate_key", ("key_1",)),
    "RevokeKey": ("revoke_key", ("key_1",)),
    "ApplyKeyspace": ("apply_keyspace", (keyspace_pb2.Keyspace(name="demo"),)),
    "GetKeyspace": ("get_keyspace", ("demo",)),
    "ExplainScope": ("explain_scope", ("demo", "a:b")),
    "GetAccount": ("get_account", ("usr_1",)),
    "DisableAccount": ("disable_account", ("usr_1",)),
    "EnableAccount": ("enable_account", ("usr_1",)),
}


@pytest.mark.parametrize("wire", REPEATED)
async def test_what_may_be_repeated_is(call: Caller, authority: Authority, wire: str) -> None:
    method, args = REPEATED[wire]
    authority.answer(wire, UNAVAILABLE, UNAVAILABLE)
    await call(method, *args)
    attempts = authority.attempts_of(wire)
    assert len(attempts) == 3
    assert attempts[0].request == attempts[2].request


async def test_a_check_that_a_flooded_server_has_given_up_is_sent_again(
    call: Caller, authority: Authority
) -> None:
    """gRPC does so by chance, while very many calls are waiting to be taken in."""
    given_up = Failure(grpc.StatusCode.CANCELLED, "")
    authority.answer("CheckScope", given_up, given_up)
    await call("check_scope", "k", "a:b")
    assert len(authority.attempts_of("CheckScope")) == 3


async def test_an_update_is_never_sent_twice(call: Caller, authority: Authority) -> None:
    """A second attempt could undo another caller's change after the first."""
    authority.answer("UpdateKey", UNAVAILABLE)
    with pytest.raises(Unavailable):
        await call("update_key", "key_1", display_name="CI")
    assert len(authority.attempts) == 1


# What the cache asks: it is tested where a server answers it.
REPLICATION = ("FetchFacts", "FetchKeyspaces", "ListReplicas")


async def test_the_policy_covers_every_rpc_but_updates() -> None:
    (config,) = json.loads(connection.service_config())["methodConfig"]
    assert {name["method"] for name in config["name"]} == {
        *REPEATED,
        "ListAccounts",
        "ListAuditEvents",
        "ListKeys",
        "ListKeyspaces",
        *REPLICATION,
    }


async def test_attempts_end(call: Caller, authority: Authority) -> None:
    authority.answer("GetKey", *[UNAVAILABLE] * 10)
    with pytest.raises(Unavailable) as caught:
        await call("get_key", "key_1")
    assert caught.value.reason == "STORE_UNAVAILABLE"
    assert len(authority.attempts) == 4


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.UNAUTHENTICATED,
    ],
)
async def test_other_failures_are_not_retried(
    call: Caller, authority: Authority, code: grpc.StatusCode
) -> None:
    authority.answer("GetKey", Failure(code))
    with pytest.raises(Exception, match=code.name):
        await call("get_key", "key_1")
    assert len(authority.attempts) == 1


async def test_two_calls_never_share_a_request_id(call: Caller, authority: Authority) -> None:
    await call("create_key")
    await call("create_key")
    await call("rotate_key", "key_1")
    ids = [attempt.request.request_id for attempt in authority.attempts]
    assert len(set(ids)) == 3
    assert all(1 <= len(request_id) <= 64 for request_id in ids)


async def test_a_given_request_id_is_kept(call: Caller, authority: Authority) -> None:
    await call("create_key", request_id="order-17")
    await call("rotate_key", "key_1", request_id="order-18")
    ids = [attempt.request.request_id for attempt in authority.attempts]
    assert ids == ["order-17", "order-18"]


async def test_a_lost_answer_makes_one_key_and_says_so(call: Caller, authority: Authority) -> None:
    """Without the request id the retry would have made a second key, unnoticed."""
    made: dict[str, str] = {}

    def make(request: Any) -> Any:
        if request.request_id in made:
            return Failure(
                grpc.StatusCode.ALREADY_EXISTS,
                reason="REQUEST_ALREADY_DONE",
                metadata={"key_id": made[request.request_id]},
            )
        made[request.request_id] = f"key_{len(made) + 1}"
        return Failure(grpc.StatusCode.UNAVAILABLE, "the connection broke")

    authority.answer("CreateKey", make, make)
    with pytest.raises(RequestAlreadyDone) as caught:
        await call("create_key")
    assert caught.value.key_id == "key_1"
    assert list(made.values()) == ["key_1"]


async def test_a_deadline_ends_a_call_and_all_its_attempts(
    call: Caller, authority: Authority
) -> None:
    authority.answer("CheckScope", UNAVAILABLE, Hang())
    with pytest.raises(DeadlineExceeded, match=r"no answer within 0\.4 s"):
        await call("check_scope", "k", "a:b", timeout_seconds=0.4)
    assert len(authority.attempts) <= 2


async def test_checks_and_other_calls_have_deadlines_of_their_own(
    kind: Any, authority: Authority
) -> None:
    caller = Caller(kind, authority.target, check_timeout_seconds=0.05, timeout_seconds=0.1)
    authority.answer("CheckScope", Hang())
    authority.answer("GetKey", Hang())
    with pytest.raises(DeadlineExceeded, match=r"0\.05 s"):
        await caller("check_scope", "k", "a:b")
    with pytest.raises(DeadlineExceeded, match=r"0\.1 s"):
        await caller("get_key", "key_1")
    await caller("close")


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
async def test_there_is_no_call_without_a_deadline(call: Caller, seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="timeout_seconds"):
        await call("get_key", "key_1", timeout_seconds=seconds)


async def test_a_server_that_comes_back_is_found_again(kind: Any, authority: Authority) -> None:
    caller = Caller(kind, authority.target)
    assert await caller("check_scope", "k", "a:b")
    await authority.stop()
    with pytest.raises(Unavailable):
        await caller("check_scope", "k", "a:b")
    await authority.start(authority.target)
    assert await caller("check_scope", "k", "a:b", timeout_seconds=10)
    await caller("close")


async def test_concurrent_calls_get_their_own_answers(call: Caller, authority: Authority) -> None:
    answers = await asyncio.gather(*(call("get_key", f"key_{n}") for n in range(100)))
    assert [key.key_id for key in answers] == [f"key_{n}" for n in range(100)]
    assert usual("GetKey", authority.last.request)
