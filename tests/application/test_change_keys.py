"""Updating, rotating and revoking keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from application.authority import ACME, Authority, refused
from keyfence_server.application.update_key import KeyUpdate
from keyfence_server.domain.keys import Key, KeyState
from keyfence_server.domain.reasons import Reason
from support.clock import START

DAY = timedelta(days=1)


async def all_keys(authority: Authority) -> dict[str, Key]:
    async with authority.store.snapshot() as snapshot:
        return {
            key.key_id: key
            for keyspace in ("acme", "other", "system")
            async for key in snapshot.iterate_keys(keyspace)
        }


async def test_a_mutation_of_one_key_leaves_every_bystander_as_it_was(
    authority: Authority,
) -> None:
    """Threat 16: a WHERE that matched too much would show in another key's record."""
    keys = [await authority.make(scopes=["vps:read"], account_id=f"a{n}") for n in range(4)]
    target = keys[1].facts.key_id
    for mutate in (
        lambda: authority.update(None, target, granted_scopes=["dns:read"], labels={"a": "b"}),
        lambda: authority.update(None, target, state=KeyState.DISABLED),
        lambda: authority.rotate(None, target, overlap=DAY),
        lambda: authority.revoke(None, target),
    ):
        before = await all_keys(authority)
        await mutate()
        after = await all_keys(authority)
        assert {i: k for i, k in after.items() if i != target and i in before} == {
            i: k for i, k in before.items() if i != target
        }


async def test_only_the_named_fields_are_changed(authority: Authority) -> None:
    made = await authority.make(scopes=["vps:read"], display_name="old", labels={"a": "b"})
    authority.clock.advance(DAY)
    facts = await authority.update(None, made.facts.key_id, granted_scopes=["vps:write"])
    key = await authority.stored(made.facts.key_id)
    assert facts.key == key
    assert (key.display_name, key.labels, key.granted_scopes) == ("old", {"a": "b"}, ("vps:write",))
    assert key.update_time == START + DAY
    assert key.create_time == START


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({}, "INVALID_FIELD", "update_mask"),
        ({"account_id": "x"}, "INVALID_FIELD", "update_mask"),
        ({"state": KeyState.REVOKED}, "INVALID_FIELD", "state"),
        ({"state": None}, "INVALID_FIELD", "state"),
        ({"granted_scopes": ["vps:raed"]}, "UNKNOWN_SCOPE", "granted_scopes[0]"),
        ({"display_name": ""}, "INVALID_FIELD", "display_name"),
        ({"expire_time": START}, "INVALID_FIELD", "expire_time"),
        ({"allowed_addresses": ["x"]}, "INVALID_FIELD", "allowed_addresses[0]"),
        ({"labels": {"": ""}}, "INVALID_FIELD", "labels[]"),
    ],
    ids=str,
)
async def test_a_field_that_cannot_be_so_is_refused(
    authority: Authority, fields: dict[str, Any], reason: str, field: str
) -> None:
    made = await authority.make()
    if "account_id" in fields:
        with refused(reason, field):
            await authority.update_key.update(
                authority.root, KeyUpdate(key_id=made.facts.key_id, fields={"account_id"})
            )
        return
    with refused(reason, field):
        await authority.update(None, made.facts.key_id, **fields)


async def test_an_update_for_a_revision_that_is_gone_is_refused(authority: Authority) -> None:
    made = await authority.make()
    revision = made.facts.key.revision
    await authority.update(None, made.facts.key_id, display_name="one", if_revision=revision)
    with refused("REVISION_CHANGED"):
        await authority.update(None, made.facts.key_id, display_name="two", if_revision=revision)
    assert (await authority.stored(made.facts.key_id)).display_name == "one"


async def test_an_earlier_expiry_whose_answer_was_lost_can_be_sent_again_after_that_time(
    authority: Authority,
) -> None:
    made = await authority.make()
    soon = START + timedelta(seconds=1)
    first = await authority.update(None, made.facts.key_id, expire_time=soon)
    authority.clock.advance(DAY)
    again = await authority.update(None, made.facts.key_id, expire_time=soon)
    assert again.key == first.key
    assert await authority.revision() == first.key.revision
    with refused("INVALID_FIELD", "expire_time"):
        await authority.update(
            None, made.facts.key_id, expire_time=soon + timedelta(microseconds=1)
        )


async def test_an_update_whose_answer_was_lost_can_be_made_again(authority: Authority) -> None:
    """For the revision that it was made for, which it has changed itself."""
    made = await authority.make()
    wanted: dict[str, Any] = {"display_name": "one", "if_revision": made.facts.key.revision}
    await authority.update(None, made.facts.key_id, **wanted)
    before = await authority.revision()
    await authority.update(None, made.facts.key_id, **wanted)
    assert await authority.revision() == before


async def test_an_update_that_changes_nothing_is_no_mutation(authority: Authority) -> None:
    made = await authority.make(display_name="same")
    before = await authority.revision()
    await authority.update(None, made.facts.key_id, display_name="same")
    assert await authority.revision() == before


async def test_a_key_is_disabled_and_enabled(authority: Authority) -> None:
    made = await authority.make(scopes=["vps:read"])
    await authority.update(None, made.facts.key_id, state=KeyState.DISABLED)
    assert (await authority.check(made, "vps:read")).reason is Reason.KEY_DISABLED
    await authority.update(None, made.facts.key_id, state=KeyState.ACTIVE)
    assert (await authority.check(made, "vps:read")).reason is Reason.OK


async def test_a_key_does_not_widen_itself(authority: Authority) -> None:
    made = await authority.make(scopes=["vps:write"], expire_time=START + DAY)
    caller = await authority.acting(made)
    key_id = made.facts.key_id
    with refused("EXCEEDS_MAKER", exceeds="scopes"):
        await authority.update(caller, key_id, granted_scopes=["vps:create"])
    with refused("EXCEEDS_MAKER", exceeds="expire_time"):
        await authority.update(caller, key_id, expire_time=None)
    await authority.update(caller, key_id, granted_scopes=["vps:read"])
    with refused("EXCEEDS_MAKER", exceeds="scopes"):
        await authority.update(caller, key_id, granted_scopes=["vps:write"])


async def test_a_lesser_key_may_rename_and_disable_a_greater_one_and_nothing_more(
    authority: Authority,
) -> None:
    """It may revoke it, so to keep it from disabling it would only make it choose worse."""
    great = (await authority.make(scopes=["*"])).facts.key_id
    small = await authority.acting(
        await authority.make(scopes=["vps:read"], expire_time=START + DAY)
    )
    await authority.update(small, great, display_name="theirs", labels={"a": "b"})
    await authority.update(small, great, state=KeyState.DISABLED)
    for widening in (
        {"state": KeyState.ACTIVE},
        {"granted_scopes": ["vps:write"]},
        {"allowed_addresses": ["10.0.0.0/8"]},
        {"expire_time": START + 2 * DAY},
        {"display_name": "x", "state": KeyState.ACTIVE},
    ):
        with refused("EXCEEDS_MAKER"):
            await authority.update(small, great, **widening)


async def test_a_life_cannot_be_drawn_out_beyond_the_longest(authority: Authority) -> None:
    """Counted from now, a key that is updated once a month would live for ever."""
    await authority.declare(ACME, max_lifetime=30 * DAY)
    made = await authority.make()
    authority.clock.advance(20 * DAY)
    with refused("INVALID_FIELD", "expire_time"):
        await authority.update(None, made.facts.key_id, expire_time=START + 31 * DAY)
    facts = await authority.update(None, made.facts.key_id, expire_time=START + 25 * DAY)
    assert facts.key.expire_time == START + 25 * DAY
    facts = await authority.update(None, made.facts.key_id, expire_time=None)
    assert facts.key.expire_time == START + 30 * DAY


async def test_a_revoked_key_is_changed_no_more_and_revoked_again_in_peace(
    authority: Authority,
) -> None:
    made = await authority.make(scopes=["*"])
    key_id = made.facts.key_id
    revoked = await authority.revoke(None, key_id)
    assert revoked.state is KeyState.REVOKED
    with refused("KEY_IS_REVOKED", key_id=key_id):
        await authority.update(None, key_id, state=KeyState.ACTIVE)
    with refused("KEY_IS_REVOKED", key_id=key_id):
        await authority.rotate(None, key_id)
    authority.clock.advance(DAY)
    again = await authority.revoke_key.revoke(authority.root, key_id)
    assert again.value.key == await authority.stored(key_id) == revoked.key
    assert again.revision == await authority.revision() == revoked.key.revision


async def test_a_comment_cannot_forge_a_line_of_the_log(authority: Authority) -> None:
    made = await authority.make()
    for comment in ("x" * 201, "a\nb"):
        with refused("INVALID_FIELD", "comment"):
            await authority.revoke_key.revoke(authority.root, made.facts.key_id, comment=comment)


async def test_a_successor_takes_over_and_the_old_key_is_gone_at_once(
    authority: Authority,
) -> None:
    made = await authority.make(
        scopes=["vps:write"], display_name="CI", labels={"a": "b"}, expire_time=START + DAY,
        allowed_addresses=["10.0.0.0/8"], environment="test",
    )  # fmt: skip
    rotated = await authority.rotate(None, made.facts.key_id)
    old, new = rotated.previous.key, rotated.successor.facts.key
    assert (old.state, old.rotated_to_key_id) == (KeyState.REVOKED, new.key_id)
    assert new.rotated_from_key_id == old.key_id
    for same in ("granted_scopes", "display_name", "labels", "expire_time", "account_id",
                 "allowed_addresses", "environment", "key_type", "parent_key_id"):  # fmt: skip
        assert getattr(new, same) == getattr(made.facts.key, same)
    assert new.digest != made.facts.key.digest
    inside: dict[str, Any] = {"client_address": "10.0.0.1"}
    check = authority.check
    assert (await check(rotated.successor, "vps:write", **inside)).reason is Reason.OK
    assert (await check(made, "vps:write", **inside)).reason is Reason.KEY_REVOKED
    assert await authority.stored(old.key_id) == old
    assert await authority.stored(new.key_id) == new


async def test_both_keys_live_for_the_overlap_and_no_longer(authority: Authority) -> None:
    made = await authority.make(scopes=["vps:read"])
    rotated = await authority.rotate(None, made.facts.key_id, overlap=DAY)
    assert rotated.previous.key.expire_time == START + DAY
    for key in (made, rotated.successor):
        assert (await authority.check(key, "vps:read")).reason is Reason.OK
    with refused("KEY_IS_ROTATED", successor_key_id=rotated.successor.facts.key_id):
        await authority.rotate(None, made.facts.key_id)
    authority.clock.advance(DAY)
    assert (await authority.check(made, "vps:read")).reason is Reason.KEY_EXPIRED
    assert (await authority.check(rotated.successor, "vps:read")).reason is Reason.OK


async def test_an_overlap_never_lengthens_a_life(authority: Authority) -> None:
    made = await authority.make(expire_time=START + DAY)
    rotated = await authority.rotate(None, made.facts.key_id, overlap=2 * DAY)
    assert rotated.previous.key.expire_time == START + DAY
    assert rotated.successor.facts.key.expire_time == START + DAY


@pytest.mark.parametrize("overlap", [timedelta(seconds=-1), 91 * DAY])
async def test_an_overlap_has_its_limits(authority: Authority, overlap: timedelta) -> None:
    made = await authority.make()
    with refused("INVALID_FIELD", "overlap"):
        await authority.rotate(None, made.facts.key_id, overlap=overlap)


async def test_an_expired_key_is_rotated_only_to_a_stated_end(authority: Authority) -> None:
    made = await authority.make(scopes=["vps:read"], expire_time=START + DAY)
    authority.clock.advance(2 * DAY)
    with refused("INVALID_FIELD", "expire_time"):
        await authority.rotate(None, made.facts.key_id)
    rotated = await authority.rotate(None, made.facts.key_id, expire_time=START + 3 * DAY)
    assert (await authority.check(rotated.successor, "vps:read")).reason is Reason.OK


@pytest.mark.parametrize("old_end", [None, START + 100 * DAY])
async def test_a_successor_keeps_the_longest_lifetime_of_today(
    authority: Authority, old_end: datetime | None
) -> None:
    """A key from before the limit would otherwise be passed on without end."""
    made = await authority.make(expire_time=old_end)
    assert made.facts.key.expire_time == old_end
    await authority.declare(ACME, max_lifetime=30 * DAY)
    rotated = await authority.rotate(None, made.facts.key_id)
    assert rotated.successor.facts.key.expire_time == START + 30 * DAY


async def test_a_disabled_key_does_not_come_back_by_rotation(authority: Authority) -> None:
    made = await authority.make(scopes=["vps:read"])
    await authority.update(None, made.facts.key_id, state=KeyState.DISABLED)
    rotated = await authority.rotate(None, made.facts.key_id)
    assert (await authority.check(rotated.successor, "vps:read")).reason is Reason.KEY_DISABLED


async def test_rotating_a_key_gives_no_caller_more_scopes(authority: Authority) -> None:
    """Threat 13: a caller that rotates a key gets its successor's plaintext."""
    great = (await authority.make(scopes=["*"])).facts.key_id
    small = await authority.acting(await authority.make(scopes=["vps:read"]))
    with refused("EXCEEDS_MAKER", exceeds="scopes"):
        await authority.rotate(small, great)


async def test_a_rotation_is_carried_out_once(authority: Authority) -> None:
    made = await authority.make()
    rotated = await authority.rotate(None, made.facts.key_id, overlap=DAY, request_id="r")
    with refused("REQUEST_ALREADY_DONE", key_id=rotated.successor.facts.key_id):
        await authority.rotate(None, made.facts.key_id, overlap=DAY, request_id="r")


async def test_an_account_key_can_replace_and_revoke_itself(authority: Authority) -> None:
    made = await authority.make(scopes=["vps:read"])
    caller = await authority.acting(made)
    rotated = await authority.rotate(caller, made.facts.key_id)
    caller = await authority.acting(rotated.successor)
    await authority.revoke(caller, caller.credential_id)
    assert (await authority.check(rotated.successor)).reason is Reason.KEY_REVOKED


ENDINGS: dict[str, Callable[[Authority], Awaitable[object]]] = {
    "revoked": lambda authority: authority.revoke(None, authority.root.credential_id),
    "disabled": lambda authority: root_becomes(authority, state=KeyState.DISABLED),
    "fewer scopes": lambda authority: root_becomes(authority, granted_scopes=["keys:*"]),
    "expiring": lambda authority: root_becomes(
        authority, expire_time=START + timedelta(seconds=20)
    ),
    "expiring in years": lambda authority: root_becomes(authority, expire_time=START + 999 * DAY),
    "fewer addresses": lambda authority: root_becomes(authority, allowed_addresses=["10.0.0.1"]),
    "every IPv4 address": lambda authority: root_becomes(
        authority, allowed_addresses=["0.0.0.0/0"]
    ),
    "rotated to an expiring key": lambda authority: authority.rotate(
        None, authority.root.credential_id, expire_time=START + 999 * DAY, overlap=DAY
    ),
}


async def root_becomes(authority: Authority, **fields: Any) -> object:
    return await authority.update(None, authority.root.credential_id, **fields)


@pytest.mark.parametrize("ending", ENDINGS)
async def test_the_last_administrator_cannot_be_taken_away(
    authority: Authority, ending: str
) -> None:
    """Threat 38: no operator could log in any more, or not for long, or not from any address."""
    await authority.operator("system", scopes=["keys:*"])
    await authority.operator("*", "system", scopes=["keys:*"])
    await authority.operator("*")
    await authority.operator("*", "system", expire_time=START + 2 * DAY)
    await authority.operator("*", "system", allowed_addresses=["10.0.0.1"], peer="10.0.0.1")
    await authority.make(
        keyspace="system", account_id="operators", preset="admin",
        bound_keyspaces=("*", "system"), parent_key_id=authority.root.credential_id,
    )  # fmt: skip
    before = await authority.revision()
    with refused("LAST_OPERATOR"):
        await ENDINGS[ending](authority)
    assert await authority.revision() == before
    await authority.operator("*", "system")
    await ENDINGS[ending](authority)


async def test_what_is_no_administrator_can_be_taken_away_whatever_is_left(
    authority: Authority,
) -> None:
    """A leaked credential must never stay for want of another one."""
    expiring = await authority.operator("*", "system", expire_time=START + 2 * DAY)
    checker = await authority.operator("acme", scopes=["keys:check"])
    for caller in (expiring, checker):
        await authority.update(None, caller.credential_id, state=KeyState.DISABLED)
        await authority.revoke(None, caller.credential_id)


async def test_the_last_administrator_can_be_rotated(authority: Authority) -> None:
    rotated = await authority.rotate(None, authority.root.credential_id)
    successor = await authority.acting(rotated.successor)
    assert successor.reaches("system")
    assert successor.reaches("acme")
    with refused("CREDENTIAL_REJECTED"):
        await authority.make()
