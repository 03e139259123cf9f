"""What an account may have and do by itself: as much as its keyspace declares."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

import pytest

from application.authority import ACME, OTHER, Authority, refused
from keyfence_server.application.quotas import RESTRICTIVE_FACTOR
from keyfence_server.domain.declarations import (
    DEFAULT_CHANGES_PER_ACCOUNT,
    DEFAULT_KEYS_PER_ACCOUNT,
    LimitsDeclaration,
)
from keyfence_server.domain.keys import KeyState
from keyfence_server.domain.limits import Rate
from support.clock import START

MINUTE: Final = timedelta(minutes=1)
DAY: Final = timedelta(days=1)


async def test_an_account_has_as_many_usable_keys_as_its_keyspace_says(
    authority: Authority,
) -> None:
    await authority.declare(ACME, limits=LimitsDeclaration(keys_per_account=3))
    caller = await authority.acting(await authority.make(scopes=["*"]))
    second = await authority.make(caller)
    await authority.make(caller, expire_time=START + DAY)
    with refused("QUOTA_REACHED", quota="keys_per_account", limit="3"):
        await authority.make(caller)
    with refused("QUOTA_REACHED", quota="keys_per_account"):
        await authority.rotate(caller, second.facts.key_id, overlap=DAY)
    await authority.rotate(caller, second.facts.key_id)
    await authority.make()
    await authority.make(await authority.acting(await authority.make(account_id="bob")))
    authority.clock.advance(DAY)
    with refused("QUOTA_REACHED"):
        await authority.make(caller)
    await authority.declare(ACME, limits=LimitsDeclaration(keys_per_account=4))
    await authority.make(caller)


async def test_an_account_makes_as_many_changes_as_its_keyspace_says(
    authority: Authority,
) -> None:
    await authority.declare(ACME, limits=LimitsDeclaration(changes_per_account=Rate(5, MINUTE)))
    caller = await authority.acting(await authority.make(scopes=["*"]))
    sister = await authority.acting(await authority.make(scopes=["*"]))
    keys = [await authority.make(caller) for _ in range(4)]
    await authority.make(sister)
    for one in (caller, sister):
        with refused("QUOTA_REACHED", quota="changes_per_account", retry_after_seconds="60"):
            await authority.make(one)
    await authority.make()
    other = await authority.acting(await authority.make(account_id="bob"))
    await authority.make(other)
    for key in keys:
        await authority.update(caller, key.facts.key_id, state=KeyState.DISABLED)
        await authority.revoke(caller, key.facts.key_id)
    authority.clock.advance(MINUTE)
    await authority.make(caller)


async def test_an_account_of_the_same_name_in_another_keyspace_has_quotas_of_its_own(
    authority: Authority,
) -> None:
    """Threat 35: each product names its accounts as it likes."""
    limits = LimitsDeclaration(keys_per_account=2, changes_per_account=Rate(1, MINUTE))
    callers = []
    for declaration in (ACME, OTHER):
        await authority.declare(declaration, limits=limits)
        made = await authority.make(keyspace=declaration.name, scopes=["vps:read"])
        callers.append(await authority.acting(made))
    for caller in callers:
        await authority.make(caller)
    for caller in callers:
        with refused("QUOTA_REACHED", quota="changes_per_account"):
            await authority.make(caller)
    authority.clock.advance(MINUTE)
    for caller in callers:
        with refused("QUOTA_REACHED", quota="keys_per_account"):
            await authority.make(caller)


async def test_restrictive_changes_have_a_quota_of_their_own(authority: Authority) -> None:
    """An owner whose keys have leaked must be able to revoke all of them; and a thief must not
    be able to keep the store busy with revocations."""
    await authority.declare(ACME, limits=LimitsDeclaration(changes_per_account=Rate(1, MINUTE)))
    caller = await authority.acting(await authority.make(scopes=["*"]))
    made = await authority.make(caller)
    for _ in range(RESTRICTIVE_FACTOR):
        await authority.revoke(caller, made.facts.key_id)
    with refused("QUOTA_REACHED"):
        await authority.revoke(caller, made.facts.key_id)
    await authority.revoke(None, made.facts.key_id)


async def test_a_change_beyond_the_quota_does_not_come_to_the_store(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    await authority.declare(ACME, limits=LimitsDeclaration(changes_per_account=Rate(1, MINUTE)))
    caller = await authority.acting(await authority.make(scopes=["*"]))
    await authority.make(caller)
    monkeypatch.setattr(authority.store, "transaction", None)
    outcomes = await asyncio.gather(
        *(authority.make(caller) for _ in range(400)), return_exceptions=True
    )
    assert {getattr(one, "reason", None) for one in outcomes} == {"QUOTA_REACHED"}


async def test_there_are_quotas_where_nothing_is_declared(authority: Authority) -> None:
    limits = ACME.limits
    assert (limits.keys_per_account, limits.changes_per_account) == (0, None)
    caller = await authority.acting(await authority.make(scopes=["*"]))
    made = await authority.make(caller)
    for _ in range(DEFAULT_CHANGES_PER_ACCOUNT.requests - 1):
        await authority.update(caller, made.facts.key_id, display_name="Same")
    with refused("QUOTA_REACHED", limit=str(DEFAULT_CHANGES_PER_ACCOUNT)):
        await authority.make(caller)
    assert DEFAULT_KEYS_PER_ACCOUNT == 1000


@pytest.mark.parametrize(
    "limits",
    [
        LimitsDeclaration(keys_per_account=-1),
        LimitsDeclaration(keys_per_account=100_001),
        LimitsDeclaration(changes_per_account=Rate(0, MINUTE)),
    ],
    ids=str,
)
async def test_a_quota_that_cannot_be_is_refused(
    authority: Authority, limits: LimitsDeclaration
) -> None:
    with refused("INVALID_KEYSPACE"):
        await authority.declare(ACME, limits=limits)
