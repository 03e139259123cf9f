"""Checks from memory: no call to the store, one load for many, nothing kept of a failure."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from application.authority import Authority
from coherence.watched_store import WatchedStore
from keyfence_server.application.create_key import MadeKey
from keyfence_server.application.ports import StoreUnavailable
from keyfence_server.domain.keys import MAX_LINEAGE, KeyState
from keyfence_server.domain.reasons import Reason
from keyfence_server.domain.secrets import Plaintext
from support.builders import insert_keys, make_key
from support.clock import FrozenClock


def never_made(authority: Authority) -> Plaintext:
    """A text that looks like a key of "acme", and is none."""
    keyspace = authority.cache.keyspaces.recall("acme")
    assert keyspace is not None
    return keyspace.forms["secret", "live"].mint()


async def test_a_hot_check_makes_no_store_call(authority: Authority, watched: WatchedStore) -> None:
    good = await authority.make(scopes=["vps:write"])
    gone = await authority.make()
    await authority.revoke(None, gone.facts.key_id)
    unknown = never_made(authority)
    presented: list[MadeKey | Plaintext | str] = [good, gone, unknown, "malformed", ""]
    for one in presented:
        await authority.check(one, "vps:read")
    before = (watched.snapshots, watched.transactions)
    for _ in range(20):
        for one in presented:
            await authority.check(one)
            await authority.check(one, "vps:read", "vps:create", keyspace="acme")
    assert (watched.snapshots, watched.transactions) == before


async def test_what_does_not_pass_costs_as_many_look_ups_whether_it_is_a_key_or_never_was(
    authority: Authority, watched: WatchedStore
) -> None:
    """Threat 23: what takes longer is what memory does not know yet, be it what it may."""
    revoked, disabled, expired, elsewhere = [
        await authority.make(**fields)
        for fields in (
            {},
            {},
            {"expire_time": authority.clock.now() + timedelta(seconds=1)},
            {"allowed_addresses": ["192.0.2.1"]},
        )
    ]
    await authority.revoke(None, revoked.facts.key_id)
    await authority.update(None, disabled.facts.key_id, state=KeyState.DISABLED)
    authority.clock.advance(timedelta(seconds=1))
    for presented, reason in (
        (never_made(authority), Reason.KEY_UNKNOWN),
        (revoked, Reason.KEY_REVOKED),
        (disabled, Reason.KEY_DISABLED),
        (expired, Reason.KEY_EXPIRED),
        (elsewhere, Reason.ADDRESS_NOT_ALLOWED),
    ):
        for look_ups in (1, 0, 0):
            before = watched.snapshots
            assert (await authority.check(presented)).reason is reason
            assert watched.snapshots - before == look_ups, reason


async def test_what_cannot_be_a_key_never_reaches_the_store(
    authority: Authority, watched: WatchedStore
) -> None:
    """Threats 15, 22: neither a statement smuggled in nor a flood of noise gets that far."""
    before = watched.snapshots
    real = never_made(authority).reveal()
    for text in ("' OR 1=1 --", real[:-1], real + "'", "x" * 10_000, real.replace("_", "%5f")):
        verdict = await authority.check(text, "vps:read")
        assert verdict.reason is Reason.CREDENTIAL_MALFORMED
    assert watched.snapshots == before


async def test_many_at_once_load_a_key_once(authority: Authority, watched: WatchedStore) -> None:
    """A popular key that drops out of memory would otherwise be asked of the store by
    everyone at the same moment."""
    made = await authority.make(scopes=["vps:read"])
    before = watched.snapshots
    gate = watched.hold_next_snapshot()
    checks = [asyncio.ensure_future(authority.check(made, "vps:read")) for _ in range(50)]
    await gate.arrival()
    gate.open()
    assert {(await check).reason for check in checks} == {Reason.OK}
    assert watched.snapshots - before == 1
    assert authority.cache.counts.joined_loads == 49


async def test_keys_that_are_asked_for_at_once_are_loaded_together(
    authority: Authority, watched: WatchedStore
) -> None:
    """In one load of at most 256 keys; what is asked for while loads wait has another."""
    prefix = (await authority.make()).facts.key.display_prefix
    keys = [make_key(keyspace="acme", display_prefix=prefix) for _ in range(300)]
    authority.cache.start_at(await insert_keys(watched, *keys))
    await authority.cache.recogniser()
    before = watched.snapshots
    found = await asyncio.gather(*(authority.cache.find_facts([key.digest]) for key in keys))
    assert [facts.key_id if facts else None for facts in found] == [key.key_id for key in keys]
    assert watched.snapshots - before == 2


async def test_a_key_that_cannot_be_read_fails_no_other_of_its_load(
    authority: Authority, watched: WatchedStore
) -> None:
    prefix = (await authority.make()).facts.key.display_prefix
    good = make_key(keyspace="acme", display_prefix=prefix)
    line = [make_key(keyspace="acme")]
    for _ in range(MAX_LINEAGE):
        line.append(make_key(keyspace="acme", parent_key_id=line[-1].key_id))
    authority.cache.start_at(await insert_keys(watched, good, *line))
    broken = asyncio.ensure_future(authority.cache.find_facts([line[-1].digest]))
    found = await authority.cache.find_facts([good.digest])
    assert found is not None
    with pytest.raises(RuntimeError, match="is incomplete in the database"):
        await broken


async def test_one_key_that_changes_is_loaded_again_alone(
    authority: Authority, watched: WatchedStore
) -> None:
    """Threat 2, of keys that are loaded together."""
    changed, other = [await authority.make(scopes=["vps:read"]) for _ in range(2)]
    gate = watched.hold_next_snapshot()
    checks = [asyncio.ensure_future(authority.check(one)) for one in (changed, other)]
    await gate.arrival()
    await authority.revoke(None, changed.facts.key_id)
    gate.open()
    assert [(await check).reason for check in checks] == [Reason.KEY_REVOKED, Reason.OK]
    assert authority.cache.counts.discarded_fills == 1


async def test_a_caller_that_gives_up_does_not_end_the_load_for_the_others(
    authority: Authority, watched: WatchedStore
) -> None:
    """Threat 7: a cancelled load would be an error, or an answer, to those who did not cancel."""
    made = await authority.make(scopes=["vps:read"])
    before = watched.snapshots
    gate = watched.hold_next_snapshot()
    first, *others = [asyncio.ensure_future(authority.check(made, "vps:read")) for _ in range(4)]
    await gate.arrival()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.open()
    assert {(await check).reason for check in others} == {Reason.OK}
    assert watched.snapshots - before == 1


async def test_a_load_that_all_callers_gave_up_leaves_nothing_behind(
    authority: Authority, watched: WatchedStore
) -> None:
    made = await authority.make(scopes=["vps:read"])
    gate = watched.hold_next_snapshot()
    check = asyncio.ensure_future(authority.check(made, "vps:read"))
    await gate.arrival()
    check.cancel()
    await asyncio.wait([check])
    await authority.revoke(None, made.facts.key_id)
    gate.open()
    assert (await authority.check(made, "vps:read")).reason is Reason.KEY_REVOKED
    assert authority.cache._awaited == {}
    assert len(authority.cache._fills) == 0


@pytest.mark.parametrize("error", [StoreUnavailable("away"), RuntimeError("a bug")], ids=repr)
async def test_a_load_that_fails_is_an_error_to_all_and_is_not_remembered(
    authority: Authority, watched: WatchedStore, error: Exception
) -> None:
    """Threat 7: a failure that is remembered as "there is no such key" locks a good key out."""
    made = await authority.make(scopes=["vps:read"])
    watched.fail_next_snapshot(error)
    checks = [asyncio.ensure_future(authority.check(made, "vps:read")) for _ in range(3)]
    outcomes = await asyncio.gather(*checks, return_exceptions=True)
    assert [type(one) for one in outcomes] == [type(error)] * 3
    assert authority.cache.unknown_count == 0
    assert (await authority.check(made, "vps:read")).reason is Reason.OK


async def test_keyspaces_that_cannot_be_read_are_read_again(
    authority: Authority, watched: WatchedStore
) -> None:
    made = await authority.make(scopes=["vps:read"])
    authority.cache.clear()
    watched.fail_next_snapshot(StoreUnavailable("away"))
    with pytest.raises(StoreUnavailable):
        await authority.check(made, "vps:read")
    assert (await authority.check(made, "vps:read")).reason is Reason.OK


async def test_checks_of_keys_in_memory_go_on_while_the_store_is_away(
    authority: Authority, watched: WatchedStore
) -> None:
    warm, cold = [await authority.make(scopes=["vps:read"]) for _ in range(2)]
    await authority.check(warm, "vps:read")
    watched.fail_next_snapshot(StoreUnavailable("away"))
    assert (await authority.check(warm, "vps:read")).reason is Reason.OK
    with pytest.raises(StoreUnavailable):
        await authority.check(cold, "vps:read")


async def test_the_keyspaces_are_loaded_once_however_many_ask(
    authority: Authority, watched: WatchedStore
) -> None:
    authority.cache.clear()
    before = watched.snapshots
    gate = watched.hold_next_snapshot()
    asking = [asyncio.ensure_future(authority.cache.find_keyspace("acme")) for _ in range(20)]
    await gate.arrival()
    gate.open()
    assert {getattr(await one, "name", None) for one in asking} == {"acme"}
    assert watched.snapshots - before == 1


async def test_a_flood_of_unknown_keys_has_a_room_of_its_own(watched: WatchedStore) -> None:
    """Made-up keys would otherwise fill the memory, or push the good keys out of it."""
    authority = Authority(watched, FrozenClock(), capacity=10, unknown_capacity=4)
    await authority.start()
    good = await authority.make(scopes=["vps:read"])
    await authority.check(good, "vps:read")
    flood = [never_made(authority) for _ in range(20)]
    for text in flood:
        assert (await authority.check(text)).reason is Reason.KEY_UNKNOWN
    assert authority.cache.unknown_count == 4
    before = watched.snapshots
    assert (await authority.check(good, "vps:read")).reason is Reason.OK
    assert (await authority.check(flood[-1])).reason is Reason.KEY_UNKNOWN
    assert watched.snapshots == before


async def test_the_creation_of_a_key_empties_the_room_of_unknown_ones(
    authority: Authority,
) -> None:
    """A digest that was unknown must be found once its key exists."""
    await authority.check(never_made(authority))
    assert authority.cache.unknown_count == 1
    made = await authority.make(scopes=["vps:read"])
    assert authority.cache.unknown_count == 0
    assert (await authority.check(made, "vps:read")).reason is Reason.OK


async def test_memory_is_bounded_and_keeps_what_was_asked_last(watched: WatchedStore) -> None:
    authority = Authority(watched, FrozenClock(), capacity=3)
    await authority.start()
    keys = [await authority.make(scopes=["vps:read"]) for _ in range(5)]
    for key in (*keys, keys[2], keys[0]):
        await authority.check(key)
    assert len(authority.cache) == 3
    before = watched.snapshots
    for key in (keys[4], keys[2], keys[0]):
        await authority.check(key)
    assert watched.snapshots == before
    await authority.check(keys[3])
    assert watched.snapshots == before + 1
    assert len(authority.cache) == 3
