"""What is changed is never answered from before the change, however the two meet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from application.authority import ACME, ROOT, Authority, no_process_before
from coherence.watched_store import Gate, Loss, WatchedStore, until
from keyfence_server.application import mutations
from keyfence_server.application.create_key import MadeKey
from keyfence_server.application.ports import (
    Change,
    ChangeKind,
    FenceEnd,
    Revision,
    StoreUnavailable,
)
from keyfence_server.coherence.applied_revisions import AppliedRevisions
from keyfence_server.coherence.downstream import DownstreamHub
from keyfence_server.coherence.fact_cache import FactCache
from keyfence_server.coherence.sole_fence import SoleFence
from keyfence_server.domain.declarations import PresetDeclaration, ScopeDeclaration
from keyfence_server.domain.keys import KeyState
from keyfence_server.domain.keyspaces import compile_keyspace
from keyfence_server.domain.reasons import Reason
from support.builders import insert_keys, make_key, put_keyspaces, update_keys
from support.clock import START

# Where the fence is broken, some of these wait for what never comes.
pytestmark = pytest.mark.timeout(60)

DAY = timedelta(days=1)
EXTRA = (*ACME.scopes, ScopeDeclaration(name="extra"))
NARROW = (
    ScopeDeclaration(name="vps:read"),
    ScopeDeclaration(name="vps:write"),
    ScopeDeclaration(name="dns:read"),
)
READ: Any = (PresetDeclaration(name="read-only", scopes=("vps:read",)),)


async def reason(authority: Authority, key: MadeKey, scope: str = "vps:read") -> Reason:
    return (await authority.check(key, scope)).reason


# Threats 2 and 3: a reading that is under way when the change comes.


@pytest.mark.parametrize("which", ["key", "parent"])
async def test_a_fill_that_a_revocation_overtakes_is_thrown_away(
    authority: Authority, watched: WatchedStore, which: str
) -> None:
    """Threat 2: the old row, read before and put back after the invalidation, would be
    accepted for as long as it stays in memory. Here the reading opened its snapshot, the
    revocation returned, and only then is the row read from the snapshot."""
    parent = await authority.make(scopes=["vps:read"])
    child = await authority.make(scopes=["vps:read"], parent_key_id=parent.facts.key_id)
    gate = watched.hold_next_snapshot()
    check = asyncio.ensure_future(reason(authority, child))
    await gate.arrival()
    await authority.revoke(None, (child if which == "key" else parent).facts.key_id)
    # This one starts after the revocation has returned, and joins the load.
    later = asyncio.ensure_future(reason(authority, child))
    gate.open()
    assert await check is Reason.KEY_REVOKED
    assert await later is Reason.KEY_REVOKED
    assert authority.cache.counts.discarded_fills == 1
    assert await reason(authority, child) is Reason.KEY_REVOKED


async def test_a_fill_that_a_change_of_another_key_overtakes_is_kept(
    authority: Authority, watched: WatchedStore
) -> None:
    """Else a busy server would never finish a load."""
    made, other = [await authority.make(scopes=["vps:read"]) for _ in range(2)]
    gate = watched.hold_next_snapshot()
    check = asyncio.ensure_future(reason(authority, made))
    await gate.arrival()
    await authority.revoke(None, other.facts.key_id)
    gate.open()
    assert await check is Reason.OK
    assert authority.cache.counts.discarded_fills == 0


async def test_a_fill_of_nothing_that_a_creation_overtakes_is_thrown_away(
    authority: Authority, watched: WatchedStore
) -> None:
    """Threat 2: "there is no such key" would be remembered of a key that has just been made."""
    key = make_key(keyspace="acme", display_prefix="ac_sec_live_abc123")
    gate = watched.hold_next_snapshot()
    looking = asyncio.ensure_future(authority.cache.find_facts([key.digest]))
    await gate.arrival()
    revision = await insert_keys(watched, key)
    authority.cache.apply(revision, [Change(ChangeKind.KEY, key.key_id, "acme", created=True)])
    gate.open()
    found = await looking
    assert found is not None
    assert found.key_id == key.key_id
    assert authority.cache.unknown_count == 0


async def test_keyspaces_read_before_a_change_are_thrown_away(
    authority: Authority, watched: WatchedStore
) -> None:
    made = await authority.make(scopes=["*"])
    authority.cache.clear()
    gate = watched.hold_next_snapshot()
    check = asyncio.ensure_future(reason(authority, made, "extra"))
    await gate.arrival()
    await authority.declare(ACME, scopes=EXTRA)
    gate.open()
    assert await check is Reason.OK


async def test_a_key_loaded_beside_a_change_of_its_keyspace_gets_the_new_one(
    authority: Authority, watched: WatchedStore
) -> None:
    made = await authority.make(scopes=["vps:write"])
    gate = watched.hold_next_snapshot()
    check = asyncio.ensure_future(reason(authority, made))
    await gate.arrival()
    await authority.declare(ACME, scopes=NARROW, presets=READ)
    gate.open()
    assert await check is Reason.SCOPE_MISSING


async def test_a_reading_that_lags_behind_is_refused(
    authority: Authority, watched: WatchedStore
) -> None:
    """Threat 3: a replica that has not seen the revocation yet would bring the key back."""
    made = await authority.make(scopes=["vps:read"])
    async with watched.lagging(times=2):
        await authority.revoke(None, made.facts.key_id)
        assert await reason(authority, made) is Reason.KEY_REVOKED
    assert authority.cache.counts.discarded_fills == 2


async def test_a_reading_that_lags_behind_a_change_applied_out_of_turn_is_refused_too(
    authority: Authority, watched: WatchedStore
) -> None:
    """Threat 3: the cache has applied the revocation, and not yet the harmless change before
    it. Held only against what is applied without a gap, the reading between them would pass."""
    prefix = (await authority.make(scopes=["vps:read"])).facts.key.display_prefix
    key, other = (make_key(keyspace="acme", display_prefix=prefix) for _ in range(2))
    authority.cache.start_at(await insert_keys(watched, key, other))
    await authority.cache.recogniser()
    harmless = await update_keys(watched, replace(other, display_name="x"))
    async with watched.lagging():
        revoking = await update_keys(watched, key.revoked(START))
        authority.cache.apply(revoking, [Change(ChangeKind.KEY, key.key_id, "acme")])
        assert authority.cache.revision == harmless - 1
        facts = await authority.cache.find_facts([key.digest])
    assert facts is not None
    assert facts.state is KeyState.REVOKED
    authority.cache.apply(harmless, [Change(ChangeKind.KEY, other.key_id, "acme")])
    assert authority.cache.revision == revoking


async def test_a_load_that_is_over_is_not_joined_after_a_change(
    authority: Authority, watched: WatchedStore
) -> None:
    """Between the end of a load and the loop's next turn its task is still there, with what
    it found before the change."""
    key = make_key(keyspace="acme", display_prefix="ac_sec_live_abc123")
    authority.cache.start_at(await insert_keys(watched, key))
    await authority.cache.recogniser()
    gate = watched.hold_next_snapshot()
    first = asyncio.ensure_future(authority.cache.find_facts([key.digest]))
    await gate.arrival()
    revision = await update_keys(watched, key.revoked(START))
    gate.open()
    await until(lambda: len(authority.cache) == 1)
    authority.cache.apply(revision, [Change(ChangeKind.KEY, key.key_id, "acme")])
    facts = await authority.cache.find_facts([key.digest])
    assert facts is not None
    assert facts.state is KeyState.REVOKED
    await first


async def test_a_keyspace_that_changes_as_its_load_ends_is_not_reported_missing(
    authority: Authority, watched: WatchedStore
) -> None:
    """Between the load's last step and the waiter's next one the keyspace is forgotten again."""
    cache = authority.cache
    cache.clear()
    gate = watched.hold_next_snapshot()
    asking = asyncio.ensure_future(cache.find_keyspace("acme"))
    await gate.arrival()
    changed = compile_keyspace(replace(ACME, description="changed"))
    revision = await put_keyspaces(watched, changed)
    gate.open()
    await until(lambda: cache.keyspaces.recall("acme") is not None)
    cache.apply(revision, [Change(ChangeKind.KEYSPACE, "acme", "acme")])
    found = await asking
    assert found is not None
    assert found.declaration == changed.declaration


# Threat 4: a commit whose outcome is unknown, or after which the connection breaks.


@pytest.mark.parametrize("loss", Loss)
@pytest.mark.parametrize("error", [StoreUnavailable("gone"), RuntimeError("a bug")], ids=repr)
async def test_whatever_becomes_of_a_commit_nothing_stale_is_left(
    authority: Authority, watched: WatchedStore, loss: Loss, error: Exception
) -> None:
    """Threat 4: the revocation took effect, its answer was lost, and memory would go on
    accepting the key, with an error in the log."""
    made = await authority.make(scopes=["vps:read"])
    assert await reason(authority, made) is Reason.OK
    watched.lose_next_commit(loss, error)
    with pytest.raises(type(error)):
        await authority.revoke(None, made.facts.key_id)
    expected = Reason.OK if loss is Loss.COMMIT else Reason.KEY_REVOKED
    assert await reason(authority, made) is expected
    # To ask for it again is safe, and makes sure.
    await authority.revoke(None, made.facts.key_id)
    assert await reason(authority, made) is Reason.KEY_REVOKED
    await authority.make()
    now = await authority.revision()
    assert authority.cache.revision == now
    assert (await authority.check(made, at_least_revision=now)).revision == now


async def test_a_lost_creation_and_a_lost_declaration_are_seen_as_well(
    authority: Authority, watched: WatchedStore
) -> None:
    made = await authority.make(scopes=["*"])
    assert await reason(authority, made) is Reason.OK
    watched.lose_next_commit(Loss.ANSWER)
    with pytest.raises(StoreUnavailable):
        await authority.declare(ACME, scopes=EXTRA)
    assert await reason(authority, made, "extra") is Reason.OK
    # The next mutation leaves a gap, which will never be filled.
    await authority.make()
    assert authority.cache.revision == await authority.revision()
    watched.lose_next_commit(Loss.ANSWER)
    with pytest.raises(StoreUnavailable):
        await authority.make(request_id="r")
    with pytest.raises(Exception, match="already made the key"):
        await authority.make(request_id="r")


@pytest.mark.parametrize("wanted", [{}, {"keyspace": "system", "bound_keyspaces": ["acme"]}])
async def test_a_load_under_way_while_a_commit_is_lost_is_thrown_away(
    authority: Authority, watched: WatchedStore, wanted: dict[str, Any]
) -> None:
    """Threats 2 and 4 together: what was read before is put back into the emptied memory."""
    made = await authority.make(**wanted)
    gate = watched.hold_next_snapshot()
    check = asyncio.ensure_future(authority.check(made))
    await gate.arrival()
    watched.lose_next_commit(Loss.ANSWER)
    with pytest.raises(StoreUnavailable):
        await authority.revoke(None, made.facts.key_id)
    gate.open()
    assert (await check).reason is Reason.KEY_REVOKED
    assert (await authority.check(made)).reason is Reason.KEY_REVOKED


async def test_keyspaces_read_while_a_declaration_is_lost_are_thrown_away(
    authority: Authority, watched: WatchedStore
) -> None:
    made = await authority.make(scopes=["*"])
    authority.cache.clear()
    gate = watched.hold_next_snapshot()
    check = asyncio.ensure_future(reason(authority, made, "extra"))
    await gate.arrival()
    watched.lose_next_commit(Loss.ANSWER)
    with pytest.raises(StoreUnavailable):
        await authority.declare(ACME, scopes=EXTRA)
    gate.open()
    assert await check is Reason.OK


async def test_a_caller_that_gives_up_does_not_keep_a_mutation_from_its_fence(
    authority: Authority,
) -> None:
    """Threat 4: a caller's deadline between commit and invalidation would leave the key in
    memory."""
    made = await authority.make(scopes=["vps:read"])
    await reason(authority, made)
    before = await authority.revision()
    revoking = asyncio.ensure_future(authority.revoke(None, made.facts.key_id))
    await until(lambda: bool(authority.mutations._under_way))
    revoking.cancel()
    await asyncio.wait([revoking])
    assert revoking.cancelled()
    await authority.mutations.finish()
    assert await authority.revision() == before + 1
    assert await reason(authority, made) is Reason.KEY_REVOKED


class HeldFence(SoleFence):
    """A fence that takes its time, as one does that has other holders to wait for."""

    def __init__(self, revisions: AppliedRevisions, hub: DownstreamHub, gate: Gate) -> None:
        super().__init__(revisions, hub, no_process_before)
        self._gate = gate

    async def wait(self, revisions: Sequence[Revision]) -> FenceEnd:
        await self._gate.pass_through()
        return await super().wait(revisions)

    async def wait_until_in_effect(self, revision: int) -> FenceEnd:
        if revision <= self._revisions.applied:
            return FenceEnd.ACKNOWLEDGEMENTS
        await self._gate.pass_through()
        return await super().wait_until_in_effect(revision)


@pytest.mark.parametrize("act", ["revoke", "disable", "declare"])
async def test_what_finds_nothing_left_to_do_waits_for_what_it_found(
    authority: Authority, watched: WatchedStore, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threat 4: the revocation is committed and its fence is still waited for. Its repetition
    finds the key revoked; answered at once, it would be an OK while the key is accepted."""
    made = await authority.make(scopes=["vps:read"])
    await reason(authority, made)
    gate = Gate()
    slow = Authority(watched, authority.clock)
    slow.cache = authority.cache
    slow.mutations._fence = HeldFence(authority.revisions, authority.hub, gate)
    slow.root = authority.root
    monkeypatch.setattr(mutations, "FENCE_SECONDS", 0.0)

    def mutate() -> asyncio.Future[object]:
        if act == "revoke":
            return asyncio.ensure_future(slow.revoke(None, made.facts.key_id))
        if act == "disable":
            return asyncio.ensure_future(
                slow.update(None, made.facts.key_id, state=KeyState.DISABLED)
            )
        return asyncio.ensure_future(slow.declare(ACME, scopes=EXTRA))

    before = watched.ended
    first = mutate()
    await gate.arrival()
    second = mutate()
    await until(lambda: watched.ended == before + 2)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not first.done()
    assert not second.done()
    assert await reason(authority, made) is Reason.OK
    gate.open()
    await asyncio.gather(first, second)


async def test_a_repetition_makes_up_for_a_revision_that_was_never_announced(
    authority: Authority, watched: WatchedStore
) -> None:
    """The commit took effect and the process was never told: the key is warm in memory. The
    repetition changes nothing, and must not be an OK on top of that."""
    made = await authority.make(scopes=["vps:read"])
    await reason(authority, made)
    await update_keys(watched, (await authority.stored(made.facts.key_id)).revoked(START))
    await authority.revoke(None, made.facts.key_id)
    assert await reason(authority, made) is Reason.KEY_REVOKED


# Threat 5: every path that changes something.

Mutation = Callable[[Authority, MadeKey, MadeKey], Awaitable[object]]
MUTATIONS: dict[str, tuple[Mutation, dict[str, Reason]]] = {
    "revoke": (
        lambda a, parent, _: a.revoke(None, parent.facts.key_id),
        {"parent": Reason.KEY_REVOKED, "child": Reason.KEY_REVOKED},
    ),
    "revoke the child": (
        lambda a, _, child: a.revoke(None, child.facts.key_id),
        {"parent": Reason.OK, "child": Reason.KEY_REVOKED},
    ),
    "disable": (
        lambda a, parent, _: a.update(None, parent.facts.key_id, state=KeyState.DISABLED),
        {"parent": Reason.KEY_DISABLED, "child": Reason.KEY_DISABLED},
    ),
    "fewer scopes": (
        lambda a, parent, _: a.update(None, parent.facts.key_id, granted_scopes=["dns:read"]),
        {"parent": Reason.SCOPE_MISSING, "child": Reason.SCOPE_MISSING},
    ),
    "expire sooner": (
        lambda a, parent, _: a.update(None, parent.facts.key_id, expire_time=START + 2 * DAY),
        {"parent": Reason.KEY_EXPIRED, "child": Reason.KEY_EXPIRED},
    ),
    "fewer addresses": (
        lambda a, parent, _: a.update(None, parent.facts.key_id, allowed_addresses=["::1"]),
        {"parent": Reason.ADDRESS_NOT_ALLOWED, "child": Reason.ADDRESS_NOT_ALLOWED},
    ),
    "rotate": (
        lambda a, parent, _: a.rotate(None, parent.facts.key_id),
        {"parent": Reason.KEY_REVOKED, "child": Reason.KEY_REVOKED},
    ),
    "rotate with an overlap": (
        lambda a, parent, _: a.rotate(None, parent.facts.key_id, overlap=2 * DAY),
        {"parent": Reason.KEY_EXPIRED, "child": Reason.KEY_EXPIRED},
    ),
    "declare fewer scopes": (
        lambda a, *_: a.declare(ACME, scopes=NARROW, presets=READ),
        {"parent": Reason.SCOPE_MISSING, "child": Reason.SCOPE_MISSING},
    ),
    "cap the type": (
        lambda a, *_: a.declare(
            ACME,
            key_types=(replace(ACME.key_types[0], scope_cap=("dns:read",)), ACME.key_types[1]),
        ),
        {"parent": Reason.SCOPE_MISSING, "child": Reason.SCOPE_MISSING},
    ),
    "declare unasked": (
        lambda a, *_: a.apply_keyspace.apply_as_server(replace(ACME, scopes=NARROW, presets=READ)),
        {"parent": Reason.SCOPE_MISSING, "child": Reason.SCOPE_MISSING},
    ),
    "rename": (
        lambda a, parent, _: a.update(None, parent.facts.key_id, display_name="x", labels={}),
        {"parent": Reason.OK, "child": Reason.OK},
    ),
    "a key beside them": (
        lambda a, *_: a.make(scopes=["*"]),
        {"parent": Reason.OK, "child": Reason.OK},
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
async def test_every_mutation_is_seen_by_the_very_next_check(
    authority: Authority, watched: WatchedStore, name: str
) -> None:
    """Threat 5: a path that forgets to say what it changed would leave a warm key as it was.
    The reading after it is held against a cache that was filled anew."""
    mutate, expected = MUTATIONS[name]
    parent = await authority.make(scopes=["vps:create"], expire_time=START + 9 * DAY)
    child = await authority.make(scopes=["vps:write"], parent_key_id=parent.facts.key_id)
    keys = {"parent": parent, "child": child}
    for key in keys.values():
        assert await reason(authority, key) is Reason.OK
    await mutate(authority, parent, child)
    authority.clock.advance(3 * DAY)
    warm = {who: await authority.check(key, "vps:read") for who, key in keys.items()}
    assert {who: verdict.reason for who, verdict in warm.items()} == expected
    authority.cache.clear()
    for who, key in keys.items():
        cold = await authority.check(key, "vps:read")
        facts = warm[who].facts
        assert cold.facts is not None
        assert facts is not None
        assert (cold.reason, cold.facts.lineage) == (warm[who].reason, facts.lineage)
    assert authority.cache.revision == await authority.revision()


async def test_the_first_credential_works_although_it_was_asked_for_before(
    authority: Authority, watched: WatchedStore
) -> None:
    """Threat 5, for what the server does of itself: the digest was remembered as unknown."""
    form = authority.root.facts.keyspace.forms["operator", "live"]
    unknown = form.mint()
    assert (await authority.check(unknown)).reason is Reason.KEY_UNKNOWN
    assert not await authority.first_start.make_root(unknown)
    assert (await authority.check(ROOT)).reason is Reason.OK


async def test_the_callers_own_credential_is_no_exception(authority: Authority) -> None:
    operator = await authority.make(
        keyspace="system", preset="admin", bound_keyspaces=["*"], account_id="ops"
    )
    await authority.acting(operator)
    await authority.revoke(None, operator.facts.key_id)
    with pytest.raises(Exception, match="not accepted"):
        await authority.acting(operator)


# Revisions.


async def test_the_revision_moves_on_when_there_is_no_gap(watched: WatchedStore) -> None:
    """A check that asks for a revision must not be answered before all up to it are applied."""
    cache = FactCache(watched)
    cache.start_at(5)
    seen = []
    for revision in (8, 7, 6, 6, 3, 10, 8, 9, 11):
        cache.apply(revision, [])
        seen.append(cache.revision)
    assert seen == [5, 5, 8, 8, 8, 8, 8, 10, 11]
    assert cache._ahead == set()


async def test_the_answer_reflects_the_revision_that_it_names(authority: Authority) -> None:
    made = await authority.make(scopes=["vps:read"])
    done = await authority.revoke_key.revoke(authority.root, made.facts.key_id)
    verdict = await authority.check(made, "vps:read", at_least_revision=done.revision)
    assert verdict.revision >= done.revision
    assert verdict.reason is Reason.KEY_REVOKED


async def test_a_change_of_an_account_drops_its_keys_also_where_the_owner_is_not_known(
    watched: WatchedStore,
) -> None:
    """A holder that loads from another one is not told which accounts are registered. It would
    go on accepting the keys of one that is disabled, and say that it had applied that."""
    key = make_key(keyspace="acme", display_prefix="ac_sec_live_abc123")
    cache = FactCache(watched)
    cache.start_at(await insert_keys(watched, key))
    facts = await cache.find_facts([key.digest])
    assert facts is not None
    assert facts.account_state is None
    change = Change(ChangeKind.ACCOUNT, key.account_id, "acme")
    cache.apply(cache.revision + 1, [change])
    assert cache.recall(key.digest.value) is None
