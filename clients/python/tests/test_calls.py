"""Every method sends what it was told, and returns what came back, typed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import grpc
import pytest

from clients.python.tests.authority import (
    NOON,
    Authority,
    Failure,
    a_key,
    a_principal,
    allowed,
    denied,
    timestamp,
)
from clients.python.tests.conftest import Caller
from keyfence import (
    CheckResult,
    FailedCheck,
    InternalError,
    KeyState,
    Page,
    Reason,
    ScopeCheck,
    ScopePath,
    UnknownScope,
)
from keyfence.v1 import (
    authorization_service_pb2,
    explanation_pb2,
    key_service_pb2,
    keyspace_pb2,
    keyspace_service_pb2,
    reason_pb2,
)


async def test_the_token_travels_as_bearer_metadata(call: Caller, authority: Authority) -> None:
    identity = await call("who_am_i")
    assert authority.last.metadata["authorization"] == "Bearer kf_system_token"
    assert identity.principal.key_id == "key_1"


async def test_authenticate_sends_every_field(call: Caller, authority: Authority) -> None:
    answer = await call(
        "authenticate",
        "kf_live_x",
        keyspace="demo",
        client_address="192.0.2.1",
        at_least_revision=5,
    )
    assert authority.last.request == authorization_service_pb2.AuthenticateRequest(
        api_key="kf_live_x", keyspace="demo", client_address="192.0.2.1", at_least_revision=5
    )
    assert answer.authenticated
    assert answer.reason is Reason.OK
    assert answer.revision == 7


async def test_a_principal_keeps_every_field(call: Caller, authority: Authority) -> None:
    authority.answer(
        "CheckScope",
        allowed(
            principal=a_principal(
                granted_scopes=["vps:*"],
                effective_scopes=["vps:read", "vps:write"],
                expire_time=timestamp(NOON),
                labels={"team": "blue"},
                bound_keyspaces=["*"],
            )
        ),
    )
    principal = (await call("check_scope", "k", "vps:read")).principal
    assert principal.granted_scopes == ("vps:*",)
    assert principal.effective_scopes == ("vps:read", "vps:write")
    assert principal.expire_time == NOON
    assert principal.expire_time.tzinfo is UTC
    assert principal.labels == {"team": "blue"}
    assert principal.bound_keyspaces == ("*",)


async def test_a_time_that_is_not_set_is_none(call: Caller) -> None:
    assert (await call("who_am_i")).principal.expire_time is None


async def test_check_scope_sends_every_field(call: Caller, authority: Authority) -> None:
    await call("check_scope", "k", "vps:read", "vps:write", keyspace="demo", explain=True)
    assert authority.last.request == authorization_service_pb2.CheckScopeRequest(
        api_key="k", required_scopes=["vps:read", "vps:write"], keyspace="demo", explain=True
    )


async def test_a_denial_is_a_false_answer_and_not_an_error(
    call: Caller, authority: Authority
) -> None:
    authority.answer("CheckScope", denied(reason_pb2.REASON_SCOPE_MISSING, ["vps:write"]))
    result = await call("check_scope", "k", "vps:write")
    assert not result
    assert result.allowed is False
    assert result.reason is Reason.SCOPE_MISSING
    assert result.missing_scopes == ("vps:write",)


async def test_an_allow_is_true(call: Caller) -> None:
    assert await call("check_scope", "k", "vps:write")


@pytest.mark.parametrize("reason", [0, 6, 999])
async def test_an_allow_that_gives_another_reason_than_ok_is_a_denial(
    call: Caller, authority: Authority, reason: Any
) -> None:
    """Otherwise a mangled or newer answer could open what its reason says is closed."""
    authority.answer("CheckScope", allowed(reason=reason))
    assert not await call("check_scope", "k", "vps:write")
    authority.answer(
        "Authenticate",
        authorization_service_pb2.AuthenticateResponse(authenticated=True, reason=reason),
    )
    assert not await call("authenticate", "k")


async def test_every_reason_of_the_api_has_a_name_here() -> None:
    names = {name.removeprefix("REASON_") for name in reason_pb2.Reason.DESCRIPTOR.values_by_name}
    assert names - {"UNSPECIFIED"} == set(Reason) - {"UNRECOGNIZED"}


async def test_an_explanation_comes_back(call: Caller, authority: Authority) -> None:
    path = explanation_pb2.ScopePath(scope="vps:read", granted="vps:*", path=["vps:read"])
    authority.answer(
        "CheckScope", allowed(explanation=explanation_pb2.ScopeExplanation(held=[path]))
    )
    result = await call("check_scope", "k", "vps:read", explain=True)
    assert result.explanation.held == (ScopePath("vps:read", "vps:*", ("vps:read",)),)


async def test_a_key_that_is_no_utf8_is_answered_and_not_raised(
    call: Caller, authority: Authority
) -> None:
    """An exception of the codec would carry the key, and the caller's caller could cause it."""
    await call("check_scope", "kf_live_\udcff", "vps:read")
    assert authority.last.request.api_key == "kf_live_\ufffd"
    await call("authenticate", "kf_live_\udcff")
    assert authority.last.request.api_key == "kf_live_\ufffd"


async def test_a_batch_answers_in_order_and_a_fault_is_its_own(
    call: Caller, authority: Authority
) -> None:
    error = authorization_service_pb2.CheckError(
        code=3, reason="UNKNOWN_SCOPE", message="no scope", metadata={"nearest": "vps:read"}
    )
    kinds = authorization_service_pb2.BatchCheckScopeResult
    authority.answer(
        "BatchCheckScope",
        authorization_service_pb2.BatchCheckScopeResponse(
            results=[
                kinds(response=denied(reason_pb2.REASON_KEY_REVOKED)),
                kinds(error=error),
                kinds(response=allowed()),
            ]
        ),
    )
    revoked, broken, good = await call(
        "batch_check_scope",
        [ScopeCheck(api_key=f"k{n}", required_scopes=("vps:reed",)) for n in range(3)],
    )
    assert [check.api_key for check in authority.last.request.checks] == ["k0", "k1", "k2"]
    assert isinstance(revoked, CheckResult)
    assert revoked.reason is Reason.KEY_REVOKED
    assert isinstance(broken, FailedCheck)
    assert isinstance(broken.error, UnknownScope)
    assert broken.error.nearest == "vps:read"
    assert (bool(revoked), bool(broken), bool(good)) == (False, False, True)


async def test_a_batch_of_another_length_than_asked_is_refused(
    call: Caller, authority: Authority
) -> None:
    """Otherwise an answer could be taken for that to another check."""
    authority.answer(
        "BatchCheckScope",
        authorization_service_pb2.BatchCheckScopeResponse(
            results=[authorization_service_pb2.BatchCheckScopeResult(response=allowed())]
        ),
    )
    with pytest.raises(InternalError, match="1 checks of 2"):
        await call("batch_check_scope", [ScopeCheck(api_key="k", required_scopes=("a",))] * 2)


async def test_a_check_without_an_answer_in_a_batch_is_not_allowed(
    call: Caller, authority: Authority
) -> None:
    authority.answer(
        "BatchCheckScope",
        authorization_service_pb2.BatchCheckScopeResponse(
            results=[authorization_service_pb2.BatchCheckScopeResult()]
        ),
    )
    (result,) = await call("batch_check_scope", [ScopeCheck(api_key="k", required_scopes=("a",))])
    assert not result.allowed


async def test_create_key_sends_every_field(call: Caller, authority: Authority) -> None:
    created = await call(
        "create_key",
        keyspace="demo",
        account_id="acct_1",
        display_name="CI",
        scopes=["vps:read"],
        preset="full",
        key_type="secret",
        environment="live",
        expire_time=NOON.astimezone(timezone(timedelta(hours=2))),
        allowed_addresses=["192.0.2.0/24"],
        labels={"team": "blue"},
        parent_key_id="key_0",
        bound_keyspaces=["demo"],
        request_id="once",
    )
    assert authority.last.request == key_service_pb2.CreateKeyRequest(
        keyspace="demo",
        account_id="acct_1",
        display_name="CI",
        scopes=["vps:read"],
        preset="full",
        key_type="secret",
        environment="live",
        expire_time=timestamp(NOON),
        allowed_addresses=["192.0.2.0/24"],
        labels={"team": "blue"},
        parent_key_id="key_0",
        bound_keyspaces=["demo"],
        request_id="once",
    )
    assert created.api_key == "kf_live_plaintext"
    assert created.key.create_time == NOON
    assert created.key.state is KeyState.ACTIVE
    assert created.revision == 8


async def test_a_naive_time_is_refused(call: Caller) -> None:
    with pytest.raises(ValueError, match="time zone"):
        await call("create_key", expire_time=datetime(2030, 1, 1))  # noqa: DTZ001 -- the point


async def test_a_single_text_is_not_taken_letter_by_letter(call: Caller) -> None:
    with pytest.raises(TypeError, match="not a string"):
        await call("create_key", scopes="vps:read")


async def test_get_key_returns_the_record(call: Caller) -> None:
    assert (await call("get_key", "key_9")).key_id == "key_9"


async def test_listing_goes_through_all_pages(call: Caller, authority: Authority) -> None:
    authority.answer(
        "ListKeys",
        key_service_pb2.ListKeysResponse(
            keys=[a_key(key_id="key_1"), a_key(key_id="key_2")], next_page_token="more"
        ),
        key_service_pb2.ListKeysResponse(keys=[a_key(key_id="key_3")]),
    )
    listing = call.client.list_keys(keyspace="demo", state=KeyState.ACTIVE, page_size=2)
    assert authority.attempts == []
    keys = await call.all_of(listing)
    assert [key.key_id for key in keys] == ["key_1", "key_2", "key_3"]
    assert [attempt.request.page_token for attempt in authority.attempts] == ["", "more"]
    assert {attempt.request.state for attempt in authority.attempts} == {
        key_service_pb2.KEY_STATE_ACTIVE
    }


async def test_the_filters_of_a_listing_are_sent(call: Caller, authority: Authority) -> None:
    time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    await call.all_of(
        call.client.list_keys(
            key_type="secret",
            environment="live",
            display_prefix="kf_live_a",
            labels={"team": "a", "tier": "1"},
            scope="vps:write",
            unused_since_time=time,
            never_used=True,
            expiring_before_time=time,
        )
    )
    sent = authority.last.request
    assert (sent.key_type, sent.environment, sent.display_prefix) == ("secret", "live", "kf_live_a")
    assert (list(sent.labels), sent.scope, sent.never_used) == (
        ["team=a", "tier=1"],
        "vps:write",
        True,
    )
    assert sent.unused_since_time.ToDatetime(tzinfo=UTC) == time
    assert sent.expiring_before_time.ToDatetime(tzinfo=UTC) == time
    await call.all_of(call.client.list_keys())
    assert authority.last.request == key_service_pb2.ListKeysRequest()


async def test_listing_can_stop_after_a_page_and_go_on_later(
    call: Caller, authority: Authority
) -> None:
    authority.answer(
        "ListKeys", key_service_pb2.ListKeysResponse(keys=[a_key()], next_page_token="more")
    )
    pages = call.client.list_keys().pages()
    is_async = hasattr(pages, "__anext__")
    first = await anext(pages) if is_async else await asyncio.to_thread(next, pages)
    assert isinstance(first, Page)
    assert first.next_page_token == "more"
    (last,) = await call.all_of(call.client.list_keys(page_token="more").pages())
    assert authority.last.request.page_token == "more"
    assert last.next_page_token == ""


async def test_a_listing_can_be_gone_through_twice(call: Caller, authority: Authority) -> None:
    listing = call.client.list_keyspaces()
    assert [keyspace.name for keyspace in await call.all_of(listing)] == ["demo"]
    assert [keyspace.name for keyspace in await call.all_of(listing)] == ["demo"]


async def test_update_key_names_only_what_it_was_given(call: Caller, authority: Authority) -> None:
    await call("update_key", "key_1", display_name="")
    assert authority.last.request.update_mask.paths == ["display_name"]
    await call("update_key", "key_1", state=KeyState.DISABLED, labels={})
    assert authority.last.request.update_mask.paths == ["state", "labels"]


async def test_update_key_tells_never_from_unchanged(call: Caller, authority: Authority) -> None:
    await call("update_key", "key_1", expire_time=None)
    request = authority.last.request
    assert request.update_mask.paths == ["expire_time"]
    assert not request.key.HasField("expire_time")


async def test_update_key_sends_every_field(call: Caller, authority: Authority) -> None:
    changed = await call(
        "update_key",
        "key_1",
        display_name="CI",
        granted_scopes=["vps:read"],
        state=KeyState.ACTIVE,
        expire_time=NOON,
        allowed_addresses=["192.0.2.1"],
        labels={"a": "b"},
        if_revision=6,
    )
    request = authority.last.request
    assert request.key == key_service_pb2.Key(
        key_id="key_1",
        display_name="CI",
        granted_scopes=["vps:read"],
        state=key_service_pb2.KEY_STATE_ACTIVE,
        expire_time=timestamp(NOON),
        allowed_addresses=["192.0.2.1"],
        labels={"a": "b"},
    )
    assert request.if_revision == 6
    assert changed.revision == 8


async def test_rotate_key_returns_both_records(call: Caller, authority: Authority) -> None:
    rotated = await call("rotate_key", "key_1", overlap=timedelta(hours=1))
    assert authority.last.request.overlap.seconds == 3600
    assert rotated.key.key_id == "key_2"
    assert rotated.previous_key.state is KeyState.REVOKED
    assert rotated.api_key == "kf_live_plaintext"


async def test_revoke_key_returns_its_revision(call: Caller, authority: Authority) -> None:
    revoked = await call("revoke_key", "key_1", comment="leaked")
    assert authority.last.request.comment == "leaked"
    assert revoked.key.state is KeyState.REVOKED
    assert revoked.revision == 8


async def test_a_keyspace_is_applied_as_a_message_and_read_with_it(
    call: Caller, authority: Authority
) -> None:
    demo = keyspace_pb2.Keyspace(name="demo", revision=7, create_time=timestamp(NOON))
    authority.answer(
        "ApplyKeyspace",
        keyspace_service_pb2.ApplyKeyspaceResponse(
            keyspace=demo,
            diff=keyspace_service_pb2.KeyspaceDiff(
                created=True,
                added_scopes=["vps:read"],
                affected_keys=[
                    keyspace_service_pb2.KeyScopeChange(key_id="key_1", lost_scopes=["dns:read"])
                ],
                affected_key_count=1,
            ),
            revision=8,
        ),
    )
    authority.answer("GetKeyspace", keyspace_service_pb2.GetKeyspaceResponse(keyspace=demo))
    applied = await call("apply_keyspace", demo, validate_only=True, if_revision=3)
    assert authority.last.request == keyspace_service_pb2.ApplyKeyspaceRequest(
        keyspace=demo, validate_only=True, if_revision=3
    )
    assert (applied.revision, applied.keyspace.revision) == (8, 7)
    assert applied.diff.created
    assert applied.diff.added_scopes == ("vps:read",)
    (change,) = applied.diff.affected_keys
    assert (change.key_id, change.lost_scopes) == ("key_1", ("dns:read",))
    found = await call("get_keyspace", "demo")
    assert found == applied.keyspace
    assert (found.name, found.create_time, found.update_time) == ("demo", NOON, None)
    assert found.declaration == demo


async def test_explain_scope_returns_paths(call: Caller, authority: Authority) -> None:
    authority.answer(
        "ExplainScope",
        keyspace_service_pb2.ExplainScopeResponse(
            scope="vps:write",
            implies=[explanation_pb2.ScopePath(scope="vps:read", granted="vps:write")],
            active_key_count=2,
        ),
    )
    explained = await call("explain_scope", "demo", "vps:write")
    assert explained.implies[0].scope == "vps:read"
    assert explained.active_key_count == 2


async def test_a_client_without_a_token_sends_none(kind: Any, authority: Authority) -> None:
    authority.answer(
        "WhoAmI", Failure(grpc.StatusCode.UNAUTHENTICATED, "who?", "CREDENTIAL_REQUIRED")
    )
    caller = Caller(kind, authority.target)
    with pytest.raises(Exception, match="CREDENTIAL_REQUIRED"):
        await caller("who_am_i")
    assert "authorization" not in authority.last.metadata
    await caller("close")
