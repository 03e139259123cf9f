"""What sessions make: within what the keyspace lets accounts grant, and ended with them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

import pytest

from application.accounts import PASSWORD, Accounts, accounts_of
from application.authority import ACME, Authority, refused
from keyfence_server.application.callers import AccountSession
from keyfence_server.application.create_key import MadeKey
from keyfence_server.application.update_account import AccountUpdate
from keyfence_server.domain.declarations import AccountsDeclaration, Registration
from keyfence_server.domain.keys import KeyState
from keyfence_server.domain.reasons import Reason
from keyfence_server.domain.secrets import Plaintext
from support.clock import START

DAY: Final = timedelta(days=1)
OPEN: Final = Registration.OPEN
NEW: Final = Plaintext("another good one")
End = Callable[[Accounts, AccountSession], Awaitable[Any]]


async def accounts_with(authority: Authority, **declared: Any) -> Accounts:
    """An account is registered in a keyspace that declares this of accounts."""
    await authority.declare(ACME, accounts=AccountsDeclaration(registration=OPEN, **declared))
    accounts = accounts_of(authority)
    await accounts.register()
    return accounts


async def works(accounts: Accounts, key: MadeKey) -> bool:
    verdict = await accounts.authority.check(key)
    assert verdict.reason in (Reason.OK, Reason.KEY_REVOKED)
    return verdict.reason is Reason.OK


@pytest.mark.parametrize(
    ("declared", "wanted", "exceeds"),
    [
        ({"grantable_key_types": ("publishable",)}, {"key_type": "secret"}, "key_type"),
        ({"grantable_environments": ("test",)}, {"environment": "live"}, "environment"),
    ],
    ids=["key type", "environment"],
)
async def test_a_session_makes_and_changes_keys_of_what_accounts_may_grant(
    authority: Authority, declared: Any, wanted: Any, exceeds: str
) -> None:
    accounts = await accounts_with(authority, **declared)
    session = await accounts.session()
    with refused("EXCEEDS_MAKER", exceeds=exceeds):
        await authority.make(session, **wanted)
    (allowed,) = next(iter(declared.values()))
    made = await authority.make(session, **{exceeds: allowed})
    assert getattr(made.facts.key, exceeds) == allowed
    others = await authority.make(account_id=session.own_account.account_id, **wanted)
    with refused("EXCEEDS_MAKER", exceeds=exceeds):
        await authority.rotate(session, others.facts.key_id)
    with refused("EXCEEDS_MAKER", exceeds=exceeds):
        await authority.update(session, others.facts.key_id, expire_time=START + DAY)


@pytest.mark.parametrize("field", ["grantable_key_types", "grantable_environments"])
async def test_what_accounts_may_grant_is_declared(authority: Authority, field: str) -> None:
    names: Any = {field: ("nothing-like-it",)}
    with refused("INVALID_KEYSPACE"):
        await authority.declare(ACME, accounts=AccountsDeclaration(**names))


async def test_keys_outlive_their_session_unless_it_is_ended_with_them(
    authority: Authority,
) -> None:
    """A stolen session would otherwise leave keys behind, and keys made by those keys."""
    accounts = await accounts_with(authority)
    kept, ended = await accounts.session(), await accounts.session()
    before = await authority.make(account_id=kept.own_account.account_id, scopes=["*"])
    other = await authority.make(kept)
    made = await authority.make(ended, scopes=["*"])
    by_key = await authority.make(await authority.acting(made))
    by_that = await authority.make(await authority.acting(by_key))
    successor = (await authority.rotate(ended, before.facts.key_id)).successor
    await authority.revoke(None, by_key.facts.key_id)
    assert (await accounts.logging_out.log_out(ended)).value == 0
    assert await works(accounts, made)
    ended = await accounts.session()
    more = await authority.make(ended)
    assert (await accounts.logging_out.log_out(ended, revoke_keys=True)).value == 1
    assert not await works(accounts, more)
    assert await works(accounts, made)
    done = await accounts.logging_out.log_out(kept, all_sessions=True, revoke_keys=True)
    assert done.value == 4
    for key in (other, made, by_that, successor):
        assert not await works(accounts, key)
        assert (await authority.stored(key.facts.key_id)).revoke_time is not None


async def test_what_was_not_made_in_a_session_stays(authority: Authority) -> None:
    """Threat 16: a WHERE that matched too much would show here."""
    accounts = await accounts_with(authority)
    session = await accounts.session()
    owner = session.own_account.account_id
    by_operator = await authority.make(account_id=owner, scopes=["*"])
    by_its_key = await authority.make(await authority.acting(by_operator))
    of_another = await authority.make(account_id="anna")
    await authority.make(session)
    await accounts.logging_out.log_out(session, all_sessions=True, revoke_keys=True)
    for key in (by_operator, by_its_key, of_another):
        assert await works(accounts, key)
        assert (await authority.stored(key.facts.key_id)) == key.facts.key


async def test_a_new_password_ends_the_keys_of_other_sessions_on_demand(
    authority: Authority,
) -> None:
    accounts = await accounts_with(authority)
    own, stolen = await accounts.session(), await accounts.session()
    mine, theirs = await authority.make(own), await authority.make(stolen)
    update = AccountUpdate(new_password=NEW, current_password=PASSWORD, revoke_keys=True)
    done = await accounts.updating.update(own, update)
    assert done.value.revoked_keys == 1
    assert await works(accounts, mine)
    assert not await works(accounts, theirs)
    with refused("INVALID_FIELD", "revoke_keys"):
        alone = AccountUpdate(fields={"display_name"}, display_name="A", revoke_keys=True)
        await accounts.updating.update(own, alone)


async def log_out(accounts: Accounts, session: AccountSession) -> Any:
    return await accounts.logging_out.log_out(session)


async def log_all_out(accounts: Accounts, session: AccountSession) -> Any:
    root = accounts.authority.root
    return await accounts.logging_out.log_out(
        root, session.own_account.account_id, all_sessions=True
    )


async def set_password(accounts: Accounts, session: AccountSession) -> Any:
    update = AccountUpdate(account_id=session.own_account.account_id, new_password=NEW)
    return await accounts.updating.update(accounts.authority.root, update)


async def disable_and_enable(accounts: Accounts, session: AccountSession) -> Any:
    root, owner = accounts.authority.root, session.own_account.account_id
    await accounts.disabling.disable(root, owner)
    return await accounts.disabling.enable(root, owner)


@pytest.mark.parametrize("end", [log_out, log_all_out, set_password, disable_and_enable])
async def test_keys_end_with_their_session_where_the_keyspace_says_so(
    authority: Authority, end: End
) -> None:
    accounts = await accounts_with(authority, keys_end_with_session=True)
    session = await accounts.session()
    made = await authority.make(session)
    await end(accounts, session)
    assert not await works(accounts, made)


async def test_a_key_that_ends_with_its_session_expires_no_later(authority: Authority) -> None:
    """Otherwise a session that is never ended would leave its keys behind."""
    accounts = await accounts_with(
        authority, keys_end_with_session=True, session_lifetime=timedelta(hours=1)
    )
    session = await accounts.session()
    end = START + timedelta(hours=1)
    made = await authority.make(session)
    assert made.facts.key.expire_time == end
    with refused("EXCEEDS_MAKER", exceeds="expire_time"):
        await authority.make(session, expire_time=end + timedelta(seconds=1))
    with refused("EXCEEDS_MAKER", exceeds="expire_time"):
        await authority.update(session, made.facts.key_id, expire_time=end + DAY)
    lasting = await authority.make(account_id=session.own_account.account_id)
    rotated = await authority.rotate(session, lasting.facts.key_id)
    assert rotated.successor.facts.key.expire_time == end
    disabled = await authority.make(account_id=session.own_account.account_id)
    await authority.update(session, disabled.facts.key_id, state=KeyState.DISABLED)
    await authority.update(session, disabled.facts.key_id, state=KeyState.ACTIVE)
