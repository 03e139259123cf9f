"""Logging in while other things happen: a password that changes meanwhile, hashes that are
renewed, attempts that come all at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from application.accounts import Accounts, accounts_of
from application.authority import ACME, Authority, refused
from keyfence_server.application import log_in
from keyfence_server.application.callers import AccountSession
from keyfence_server.application.disable_account import DisableAccount
from keyfence_server.application.log_in_attempts import PER_ACCOUNT_AND_ADDRESS
from keyfence_server.application.update_account import AccountUpdate
from keyfence_server.domain.declarations import AccountsDeclaration, Registration
from keyfence_server.domain.reasons import Reason
from keyfence_server.domain.secrets import Plaintext


@pytest.fixture
async def accounts(authority: Authority) -> Accounts:
    await authority.declare(ACME, accounts=AccountsDeclaration(registration=Registration.OPEN))
    return accounts_of(authority)


async def test_a_password_that_changes_while_it_is_checked_does_not_count(
    accounts: Accounts,
) -> None:
    """Otherwise the old password could begin a session while its owner changes it."""
    account = await accounts.register()
    accounts.hashes.gate = asyncio.Event()
    slow = asyncio.create_task(accounts.log_in())
    await accounts.hashes.arrived.wait()
    update = AccountUpdate(
        account_id=account.account_id, new_password=Plaintext("another good one")
    )
    await accounts.updating.update(accounts.authority.root, update)
    accounts.hashes.gate.set()
    with refused("LOG_IN_FAILED"):
        await slow


async def test_an_account_disabled_while_its_password_is_checked_stays_out(
    accounts: Accounts,
) -> None:
    account = await accounts.register()
    accounts.hashes.gate = asyncio.Event()
    slow = asyncio.create_task(accounts.log_in())
    await accounts.hashes.arrived.wait()
    disabling = DisableAccount(accounts.authority.mutations, accounts.authority.clock)
    await disabling.disable(accounts.authority.root, account.account_id)
    accounts.hashes.gate.set()
    with refused("ACCOUNT_IS_DISABLED"):
        await slow


async def test_a_hash_is_renewed_at_the_next_log_in_and_once(accounts: Accounts) -> None:
    account = await accounts.register()
    await accounts.log_in()
    assert (await accounts.stored(account)).password.text.startswith("kept:")
    accounts.hashes.outdated = True
    with refused("LOG_IN_FAILED"):
        await accounts.log_in(Plaintext("wrong"))
    assert (await accounts.stored(account)).password.text.startswith("kept:")
    await accounts.log_in()
    renewed = await accounts.stored(account)
    assert renewed.password.text.startswith("new:")
    await accounts.log_in()
    assert (await accounts.stored(account)).revision == renewed.revision
    assert replace(renewed, password=account.password, revision=account.revision) == account


async def test_many_tries_at_once_are_no_more_than_one_after_the_other(
    accounts: Accounts,
) -> None:
    await accounts.register()
    accounts.hashes.gate = asyncio.Event()
    limit = PER_ACCOUNT_AND_ADDRESS.requests
    tries = [
        asyncio.create_task(accounts.log_in(Plaintext(f"guess {n}"))) for n in range(limit * 3)
    ]
    for _, stopped in zip(range(limit * 2), asyncio.as_completed(tries), strict=False):
        with refused("TOO_MANY_ATTEMPTS"):
            await stopped
    accounts.hashes.gate.set()
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    reasons = [getattr(one, "reason", None) for one in outcomes]
    assert reasons.count("LOG_IN_FAILED") == limit
    assert accounts.hashes.verifying == limit


async def test_log_ins_that_succeed_cost_nothing(accounts: Accounts) -> None:
    await accounts.register()
    for _ in range(PER_ACCOUNT_AND_ADDRESS.requests * 2):
        await accounts.log_in()


@pytest.mark.parametrize("ends_keys", [False, True])
async def test_a_log_in_beyond_the_limit_of_sessions_ends_the_oldest_one(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, *, ends_keys: bool
) -> None:
    """To refuse it would lock out an owner whose program never logs out."""
    monkeypatch.setattr(log_in, "MAX_SESSIONS", 2)
    await authority.declare(
        ACME,
        accounts=AccountsDeclaration(
            registration=Registration.OPEN, keys_end_with_session=ends_keys
        ),
    )
    accounts = accounts_of(authority)
    await accounts.register()
    oldest = (await accounts.log_in()).token.reveal()
    caller = await accounts.callers.identify(oldest)
    made = await authority.make(caller)
    authority.clock.advance(timedelta(seconds=1))
    others = [(await accounts.log_in()).token.reveal()]
    assert isinstance(await accounts.callers.identify(oldest), AccountSession)
    authority.clock.advance(timedelta(seconds=1))
    others.append((await accounts.log_in()).token.reveal())
    with refused("CREDENTIAL_REJECTED"):
        await accounts.callers.identify(oldest)
    for one in others:
        assert isinstance(await accounts.callers.identify(one), AccountSession)
    expected = Reason.KEY_REVOKED if ends_keys else Reason.OK
    assert (await authority.check(made)).reason is expected


async def test_a_session_that_ends_while_it_makes_a_key_makes_none(accounts: Accounts) -> None:
    """Making reads the session from the store, in the transaction."""
    await accounts.register()
    token = (await accounts.log_in()).token.reveal()
    first, second = [await accounts.callers.identify(token) for _ in range(2)]
    assert isinstance(first, AccountSession)
    await accounts.logging_out.log_out(first)
    with refused("CREDENTIAL_REJECTED"):
        await accounts.authority.make(second)


async def test_a_session_makes_keys_until_its_time_is_up(accounts: Accounts) -> None:
    await accounts.register()
    caller = await accounts.callers.identify((await accounts.log_in()).token.reveal())
    made = await accounts.authority.make(caller, scopes=["*"])
    assert made.facts.key.expire_time is None
    accounts.authority.clock.advance(timedelta(hours=24))
    with refused("CREDENTIAL_REJECTED"):
        await accounts.authority.make(caller)
