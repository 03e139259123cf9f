"""What a key makes stays within it, and what an operator disabled stays disabled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

from application.authority import ACME, Authority, refused
from keyfence_server.application.callers import AccountKey, Operator
from keyfence_server.domain.declarations import KeyTypeDeclaration
from keyfence_server.domain.keys import KeyState
from keyfence_server.domain.reasons import Reason

TYPES: Final = (
    *ACME.key_types,
    KeyTypeDeclaration(name="restricted", marker="res", scope_cap=("vps:*",), manages_keys=True),
    KeyTypeDeclaration(name="viewer", marker="vie", scope_cap=("vps:read", "dns:read")),
    KeyTypeDeclaration(name="starred", marker="sta", scope_cap=("*",), manages_keys=True),
)
Act = Callable[[Authority, Operator | AccountKey], Awaitable[object]]


async def key_of(authority: Authority, **wanted: Any) -> Operator | AccountKey:
    return await authority.acting(await authority.make(**{"scopes": ["vps:read"], **wanted}))


async def make_live(authority: Authority, caller: Operator | AccountKey) -> object:
    return await authority.make(caller, environment="live")


async def rotate_live(authority: Authority, caller: Operator | AccountKey) -> object:
    live = await authority.make(scopes=["vps:read"], environment="live")
    return await authority.rotate(caller, live.facts.key_id)


async def widen_live(authority: Authority, caller: Operator | AccountKey) -> object:
    live = await authority.make(environment="live")
    return await authority.update(caller, live.facts.key_id, granted_scopes=["vps:read"])


async def enable_live(authority: Authority, caller: Operator | AccountKey) -> object:
    live = await authority.make(scopes=["vps:read"], environment="live")
    await authority.update(caller, live.facts.key_id, state=KeyState.DISABLED)
    return await authority.update(caller, live.facts.key_id, state=KeyState.ACTIVE)


@pytest.mark.parametrize("act", [make_live, rotate_live, widen_live, enable_live])
async def test_a_key_of_a_test_system_gives_nothing_to_keys_of_the_live_one(
    authority: Authority, act: Act
) -> None:
    """Threat 13: it could otherwise hold a live key's plaintext, or widen one."""
    test = await key_of(authority, environment="test")
    with refused("EXCEEDS_MAKER", exceeds="environment"):
        await act(authority, test)
    await act(authority, await key_of(authority, environment="live"))


async def test_a_key_made_by_a_key_is_for_its_makers_environment_if_none_is_named(
    authority: Authority,
) -> None:
    test = await key_of(authority, environment="test")
    assert (await authority.make(test)).facts.key.environment == "test"
    parent = test.credential_id
    assert (await authority.make(parent_key_id=parent)).facts.key.environment == "test"
    with refused("EXCEEDS_MAKER", exceeds="environment"):
        await authority.make(parent_key_id=parent, environment="live")


@pytest.mark.parametrize(
    ("maker", "made", "is_within"),
    [
        ("secret", "secret", True),
        ("secret", "publishable", True),
        ("secret", "restricted", True),
        ("secret", "starred", True),
        ("starred", "publishable", True),
        ("starred", "secret", False),
        ("restricted", "restricted", True),
        ("restricted", "publishable", True),
        ("restricted", "viewer", False),
        ("restricted", "secret", False),
    ],
)
async def test_a_key_makes_keys_of_types_that_can_do_no_more_than_its_own(
    authority: Authority, maker: str, made: str, *, is_within: bool
) -> None:
    """Threat 13: a cap on a type would otherwise end where its keys make keys of another."""
    await authority.declare(ACME, key_types=TYPES)
    caller = await key_of(authority, key_type=maker)
    if is_within:
        assert (await authority.make(caller, key_type=made)).facts.key.key_type == made
    else:
        with refused("EXCEEDS_MAKER", exceeds="key_type"):
            await authority.make(caller, key_type=made)
    assert (await authority.make(caller)).facts.key.key_type in ("secret", maker)


async def test_a_child_is_of_a_type_within_its_parents(authority: Authority) -> None:
    parent = await authority.make(key_type="publishable")
    with refused("EXCEEDS_MAKER", exceeds="key_type"):
        await authority.make(parent_key_id=parent.facts.key_id, key_type="secret")
    child = await authority.make(parent_key_id=parent.facts.key_id)
    assert child.facts.key.key_type == "publishable"


async def test_what_an_operator_disabled_only_an_operator_enables(authority: Authority) -> None:
    made = await authority.make(scopes=["vps:read"])
    key_id = made.facts.key_id
    owner = await key_of(authority, scopes=["*"])
    await authority.update(None, key_id, state=KeyState.DISABLED)
    await authority.update(owner, key_id, state=KeyState.DISABLED)
    with refused("EXCEEDS_MAKER", exceeds="state"):
        await authority.update(owner, key_id, state=KeyState.ACTIVE)
    successor = (await authority.rotate(owner, key_id)).successor
    assert (await authority.check(successor, "vps:read")).reason is Reason.KEY_DISABLED
    with refused("EXCEEDS_MAKER", exceeds="state"):
        await authority.update(owner, successor.facts.key_id, state=KeyState.ACTIVE)
    await authority.update(None, successor.facts.key_id, state=KeyState.ACTIVE)
    assert (await authority.check(successor, "vps:read")).reason is Reason.OK
    await authority.update(owner, successor.facts.key_id, state=KeyState.DISABLED)
    await authority.update(owner, successor.facts.key_id, state=KeyState.ACTIVE)
    assert (await authority.check(successor, "vps:read")).reason is Reason.OK


async def test_an_operators_disabling_counts_where_the_account_came_first(
    authority: Authority,
) -> None:
    """A call that finds the key disabled already would otherwise leave it to the account."""
    key_id = (await authority.make(scopes=["vps:read"])).facts.key_id
    owner = await key_of(authority, scopes=["*"])
    await authority.update(owner, key_id, state=KeyState.DISABLED)
    await authority.update(None, key_id, state=KeyState.DISABLED)
    with refused("EXCEEDS_MAKER", exceeds="state"):
        await authority.update(owner, key_id, state=KeyState.ACTIVE)


async def test_applying_keyspaces_is_documented_as_equal_to_managing_their_keys(
    authority: Authority,
) -> None:
    """What a scope implies decides what every key may do. So the right to apply a keyspace includes
    the right to its keys, and only a caller that has both can grant it."""
    applier = await authority.operator("acme", scopes=["keyspaces:write"])
    made = await authority.make(applier, scopes=["*"])
    assert (await authority.check(made, "dns:read")).reason is Reason.OK
    with refused("KEYSPACE_NOT_BOUND"):
        await authority.make(applier, keyspace="other")
    maker = await authority.operator(
        "acme", "system", scopes=["keys:write", "keyspaces:read", "accounts:*"]
    )
    with refused("EXCEEDS_MAKER", exceeds="scopes"):
        await authority.operator("acme", scopes=["keyspaces:write"], by=maker)
