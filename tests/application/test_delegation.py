"""Delegated keys: narrowed with those they hang on, and revoked with them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from application.authority import ACME, Authority, refused
from keyfence_server.application.create_key import MadeKey
from keyfence_server.application.read_keys import Listing
from keyfence_server.domain.keys import MAX_LINEAGE, KeyState
from keyfence_server.domain.reasons import Reason
from support.clock import START

DAY = timedelta(days=1)


async def child_of(authority: Authority, parent: MadeKey, **wanted: Any) -> MadeKey:
    return await authority.make(parent_key_id=parent.facts.key_id, **wanted)


async def test_a_child_is_narrowed_with_its_parent(authority: Authority) -> None:
    parent = await authority.make(scopes=["vps:*", "dns:read"])
    child = await child_of(authority, parent, scopes=["vps:*"])
    assert (await authority.check(child, "vps:create")).reason is Reason.OK
    await authority.update(None, parent.facts.key_id, granted_scopes=["vps:read"])
    verdict = await authority.check(child, "vps:create", "vps:read")
    assert (verdict.reason, verdict.missing_scopes) == (Reason.SCOPE_MISSING, ("vps:create",))
    assert (await authority.stored(child.facts.key_id)).granted_scopes == ("vps:*",)


@pytest.mark.parametrize("depth", [1, 2, 3])
async def test_a_whole_line_ends_with_any_of_those_above(authority: Authority, depth: int) -> None:
    """A child that is cached apart from its parents would go on working."""
    line = [await authority.make(scopes=["*"])]
    for _ in range(depth):
        line.append(await child_of(authority, line[-1], scopes=["*"]))
    assert (await authority.check(line[-1], "dns:read")).reason is Reason.OK
    top = line[0].facts.key_id
    await authority.update(None, top, state=KeyState.DISABLED)
    assert (await authority.check(line[-1], "dns:read")).reason is Reason.KEY_DISABLED
    await authority.update(None, top, state=KeyState.ACTIVE, expire_time=START + DAY)
    assert (await authority.check(line[-1], "dns:read")).reason is Reason.OK
    await authority.revoke(None, top)
    assert (await authority.check(line[-1], "dns:read")).reason is Reason.KEY_REVOKED
    read = await authority.read_keys.get(authority.root, line[-1].facts.key_id)
    assert read.state is KeyState.REVOKED


async def test_children_stay_with_the_old_key_and_end_with_it(authority: Authority) -> None:
    parent = await authority.make(scopes=["*"])
    child = await child_of(authority, parent, scopes=["vps:read"])
    await authority.rotate(None, parent.facts.key_id, overlap=DAY)
    assert (await authority.check(child, "vps:read")).reason is Reason.OK
    authority.clock.advance(DAY)
    assert (await authority.check(child, "vps:read")).reason is Reason.KEY_EXPIRED


async def test_a_line_has_its_limit(authority: Authority) -> None:
    key = await authority.make(scopes=["*"])
    for _ in range(MAX_LINEAGE - 1):
        key = await child_of(authority, key, scopes=["*"])
    with refused("DELEGATION_TOO_DEEP", limit=str(MAX_LINEAGE)):
        await child_of(authority, key)


async def test_a_parent_is_a_living_key_of_the_same_account_and_keyspace(
    authority: Authority,
) -> None:
    parent = await authority.make(scopes=["*"])
    with refused("INVALID_FIELD", "parent_key_id"):
        await child_of(authority, parent, account_id="bob")
    with refused("INVALID_FIELD", "parent_key_id"):
        await child_of(authority, parent, keyspace="other")
    with refused("EXCEEDS_MAKER", exceeds="scopes"):
        narrow = await authority.make(scopes=["vps:read"])
        await child_of(authority, narrow, scopes=["vps:write"])
    child = await child_of(authority, parent, scopes=["*"])
    await authority.revoke(None, parent.facts.key_id)
    for dead in (parent, child):
        with refused("KEY_IS_REVOKED"):
            await child_of(authority, dead)


async def test_a_parent_of_another_account_is_not_to_be_found(authority: Authority) -> None:
    anna = await authority.acting(await authority.make(scopes=["*"]))
    bobs = await authority.make(scopes=["*"], account_id="bob")
    with refused("KEY_NOT_FOUND"):
        await authority.make(by=anna, parent_key_id=bobs.facts.key_id)


async def test_what_a_delegated_key_makes_hangs_on_it(authority: Authority) -> None:
    """Otherwise a delegated key could make a key that stays after the delegation is revoked."""
    parent = await authority.make(scopes=["*"])
    delegate = await authority.acting(await child_of(authority, parent, scopes=["*"]))
    made = await authority.make(by=delegate, scopes=["vps:read"])
    assert made.facts.key.parent_key_id == delegate.credential_id
    grandchild = await authority.make(by=delegate, parent_key_id=made.facts.key_id)
    assert [key.key_id for key in grandchild.facts.lineage][-2:] == [
        delegate.credential_id,
        parent.facts.key_id,
    ]
    with refused("EXCEEDS_MAKER", exceeds="parent_key_id"):
        await authority.make(by=delegate, parent_key_id=parent.facts.key_id)
    await authority.revoke(None, parent.facts.key_id)
    assert (await authority.check(made, "vps:read")).reason is Reason.KEY_REVOKED


async def test_a_delegated_key_manages_its_own_line_alone(authority: Authority) -> None:
    """It could otherwise rotate its parent and keep the successor, or revoke its sisters."""
    parent = await authority.make(scopes=["vps:*"])
    sister = await child_of(authority, parent, scopes=["vps:*"])
    delegate = await authority.acting(await child_of(authority, parent, scopes=["vps:*"]))
    own = await authority.make(by=delegate, scopes=["vps:read"])
    for other in (parent.facts.key_id, sister.facts.key_id):
        with refused("EXCEEDS_MAKER", exceeds="parent_key_id"):
            await authority.rotate(delegate, other)
        with refused("EXCEEDS_MAKER", exceeds="parent_key_id"):
            await authority.revoke(delegate, other)
        with refused("EXCEEDS_MAKER", exceeds="parent_key_id"):
            await authority.update(delegate, other, display_name="x")
    await authority.update(delegate, own.facts.key_id, display_name="x")
    await authority.revoke(delegate, own.facts.key_id)
    rotated = await authority.rotate(delegate, delegate.credential_id)
    assert rotated.successor.facts.key.parent_key_id == parent.facts.key_id


async def test_what_a_delegated_operator_makes_hangs_on_it_too(authority: Authority) -> None:
    above = await authority.operator("*", "system")
    below = await authority.operator("*", "system", parent_key_id=above.credential_id)
    made = await authority.make(
        by=below, keyspace="system", account_id="operators", preset="admin", bound_keyspaces=["*"]
    )
    with refused("EXCEEDS_MAKER", exceeds="parent_key_id"):
        await authority.rotate(below, above.credential_id)
    account_key = await authority.make(by=below, scopes=["*"])
    await authority.revoke(None, above.credential_id)
    with refused("CREDENTIAL_REJECTED"):
        await authority.acting(made)
    assert (await authority.check(account_key, "dns:read")).reason is Reason.OK


async def test_a_delegated_key_manages_only_where_its_whole_line_may(
    authority: Authority,
) -> None:
    parent = await authority.make(scopes=["vps:read"], key_type="publishable")
    child = await authority.acting(await child_of(authority, parent, scopes=["vps:read"]))
    with refused("KEY_TYPE_MAY_NOT_MANAGE", key_type="publishable"):
        await authority.read_keys.list(child, Listing())


async def test_a_child_is_capped_by_the_type_of_its_parent(authority: Authority) -> None:
    parent = await authority.make(scopes=["*"], key_type="publishable")
    with refused("EXCEEDS_MAKER", exceeds="key_type"):
        await child_of(authority, parent, scopes=["vps:write"], key_type="secret")
    # A child that asks for no type is of its parent's.
    with refused("INVALID_FIELD"):
        await child_of(authority, parent, scopes=["vps:write"])
    child = await child_of(authority, parent, scopes=["vps:read"])
    kinds = tuple(k for k in ACME.key_types if k.name == "secret")
    with refused("STILL_IN_USE", key_type="publishable"):
        await authority.declare(ACME, key_types=kinds)
    assert child.facts.effective_scopes == ("vps:read",)
