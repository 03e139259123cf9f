"""Xquik: one kind of key, which can make others for its account."""

from __future__ import annotations

import pytest

import keyfence
from keyfence.results import Reason
from support.systems import Authority

NAME = "xquik"


async def test_the_prefix_is_the_first_eight_characters_of_the_key(authority: Authority) -> None:
    await authority.apply(NAME)
    made = await authority.operator.create_key(keyspace=NAME, account_id="42")
    assert made.key.display_prefix == made.api_key[:8]
    assert made.key.display_prefix.startswith("xq_")


async def test_an_existing_key_makes_more_keys_for_its_account(authority: Authority) -> None:
    await authority.apply(NAME)
    first = await authority.operator.create_key(keyspace=NAME, account_id="42")
    async with authority.client(first.api_key) as holder:
        second = await holder.create_key(display_name="Production")
    assert (second.key.account_id, second.key.display_name) == ("42", "Production")
    async with authority.client(second.api_key) as holder:
        third = await holder.create_key()
    assert (third.key.account_id, third.key.display_name) == ("42", "Default")
    assert await authority.reason(third.api_key, NAME) is Reason.OK


async def test_a_key_makes_none_for_another_account_or_keyspace(authority: Authority) -> None:
    await authority.apply(NAME)
    await authority.apply("quicksrv")
    made = await authority.operator.create_key(keyspace=NAME, account_id="42")
    async with authority.client(made.api_key) as holder:
        with pytest.raises(keyfence.CallFailed) as other_account:
            await holder.create_key(account_id="43")
        with pytest.raises(keyfence.CallFailed) as other_keyspace:
            await holder.create_key(keyspace="quicksrv")
    assert other_account.value.status in {"INVALID_ARGUMENT", "PERMISSION_DENIED"}
    assert other_keyspace.value.status in {"NOT_FOUND", "PERMISSION_DENIED"}


async def test_rotation_by_the_key_itself_leaves_one_good_key(authority: Authority) -> None:
    """What the page calls "automated key rotation": make the next with the present one."""
    await authority.apply(NAME)
    old = await authority.operator.create_key(keyspace=NAME, account_id="42")
    async with authority.client(old.api_key) as holder:
        new = await holder.rotate_key(old.key.key_id)
    assert await authority.reason(old.api_key, NAME) is Reason.KEY_REVOKED
    assert await authority.reason(new.api_key, NAME) is Reason.OK
