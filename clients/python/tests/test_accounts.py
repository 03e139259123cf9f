"""Accounts and sessions, through both clients."""

from __future__ import annotations

import grpc
import pytest

from clients.python.tests.authority import NOON, Authority, Failure, an_account, timestamp
from clients.python.tests.conftest import Caller
from keyfence import AccountState, PermissionDenied, ResourceExhausted, Unauthenticated
from keyfence.v1 import account_service_pb2 as accounts

CANARY = "a-password-7f3a9c"


async def test_an_account_is_registered(call: Caller, authority: Authority) -> None:
    authority.answer(
        "RegisterAccount", accounts.RegisterAccountResponse(account=an_account(), revision=7)
    )
    done = await call("register_account", "demo", "anna@example.com", CANARY, labels={"a": "b"})
    assert authority.last.request == accounts.RegisterAccountRequest(
        keyspace="demo", email="anna@example.com", password=CANARY, labels={"a": "b"}
    )
    account = done.account
    assert (account.account_id, account.state, account.create_time) == (
        "usr_1",
        AccountState.ACTIVE,
        NOON,
    )
    assert account.disable_time is None
    assert done.revision == 7


async def test_a_log_in_hands_over_a_token_that_it_does_not_show(
    call: Caller, authority: Authority
) -> None:
    session = accounts.Session(session_id="ses_1", expire_time=timestamp(NOON))
    authority.answer(
        "LogIn",
        accounts.LogInResponse(session_token="eyJ.secret", session=session, account=an_account()),
    )
    done = await call("log_in", "demo", "anna@example.com", CANARY)
    assert done.session_token == "eyJ.secret"
    assert (done.session.session_id, done.session.expire_time) == ("ses_1", NOON)
    assert "secret" not in repr(done)


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (
            Failure(grpc.StatusCode.UNAUTHENTICATED, f"no {CANARY}", "LOG_IN_FAILED"),
            Unauthenticated,
        ),
        (
            Failure(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "later",
                "TOO_MANY_ATTEMPTS",
                {"retry_after_seconds": "540"},
            ),
            ResourceExhausted,
        ),
    ],
)
async def test_a_log_in_that_fails_is_not_tried_again_and_shows_no_password(
    call: Caller, authority: Authority, failure: Failure, error: type[Exception]
) -> None:
    authority.answer("LogIn", failure)
    with pytest.raises(error) as caught:
        await call("log_in", "demo", "anna@example.com", CANARY)
    assert CANARY not in str(caught.value)
    assert len(authority.attempts) == 1


async def test_only_what_is_given_is_changed(call: Caller, authority: Authority) -> None:
    authority.answer("UpdateAccount", accounts.UpdateAccountResponse(account=an_account()))
    await call("update_account", display_name="", plan="pro")
    request = authority.last.request
    assert list(request.update_mask.paths) == ["display_name", "plan"]
    assert request.account == accounts.Account(plan="pro")
    authority.answer(
        "UpdateAccount",
        Failure(grpc.StatusCode.PERMISSION_DENIED, f"not {CANARY}", "PASSWORD_REJECTED"),
    )
    with pytest.raises(PermissionDenied) as caught:
        await call("update_account", new_password="x", current_password=CANARY)
    assert CANARY not in str(caught.value)


async def test_accounts_are_listed_through_all_pages(call: Caller, authority: Authority) -> None:
    authority.answer(
        "ListAccounts",
        accounts.ListAccountsResponse(accounts=[an_account()], next_page_token="more"),
        accounts.ListAccountsResponse(
            accounts=[an_account(account_id="usr_2", state=99, disable_time=timestamp(NOON))]
        ),
    )
    listing = call.client.list_accounts("demo", state=AccountState.DISABLED, email="a@example.com")
    first, second = await call.all_of(listing)
    assert (first.account_id, second.account_id) == ("usr_1", "usr_2")
    assert second.state is AccountState.UNRECOGNIZED
    assert second.disable_time == NOON
    asked = [attempt.request for attempt in authority.attempts_of("ListAccounts")]
    assert [one.page_token for one in asked] == ["", "more"]
    assert {one.state for one in asked} == {accounts.ACCOUNT_STATE_DISABLED}


async def test_a_state_that_is_none_cannot_be_asked_for(call: Caller) -> None:
    with pytest.raises(ValueError, match="UNRECOGNIZED"):
        await call.all_of(call.client.list_accounts("demo", state=AccountState.UNRECOGNIZED))


async def test_sessions_are_ended_and_accounts_stopped(call: Caller, authority: Authority) -> None:
    authority.answer("LogOut", accounts.LogOutResponse(revision=8))
    assert await call("log_out", all_sessions=True, revoke_keys=True) == 8
    assert authority.last.request == accounts.LogOutRequest(all_sessions=True, revoke_keys=True)
    disabled = an_account(state=accounts.ACCOUNT_STATE_DISABLED, disable_time=timestamp(NOON))
    authority.answer(
        "DisableAccount", accounts.DisableAccountResponse(account=disabled, revision=9)
    )
    done = await call("disable_account", "usr_1", comment="spam")
    assert (done.account.state, done.account.disable_time) == (AccountState.DISABLED, NOON)
    assert authority.last.request == accounts.DisableAccountRequest(
        account_id="usr_1", comment="spam"
    )
    authority.answer("EnableAccount", accounts.EnableAccountResponse(account=an_account()))
    assert (await call("enable_account", "usr_1")).account.state is AccountState.ACTIVE
    authority.answer("GetAccount", accounts.GetAccountResponse(account=an_account()))
    assert (await call("get_account")).email == "anna@example.com"
