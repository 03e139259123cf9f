"""Accounts and sessions in memory: never stale, and asked of the store once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from coherence.watched_store import WatchedStore
from keyfence_server.application.ports import Change, ChangeKind, Store
from keyfence_server.coherence.fact_cache import FactCache
from keyfence_server.domain.declarations import AccountsDeclaration
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.reasons import Reason
from keyfence_server.domain.secrets import Digest
from keyfence_server.domain.sessions import SessionId
from support.builders import (
    KEYSPACE,
    account_change,
    commit_one,
    digest_of,
    insert_accounts,
    insert_keys,
    insert_sessions,
    make_account,
    make_event,
    make_key,
    make_keyspace,
    make_session,
    put_keyspaces,
    update_accounts,
)
from support.clock import START

NOW = START.timestamp()


@pytest.fixture
async def watched(store: Store) -> WatchedStore:
    """A store with the keyspace `demo`, whose readings are counted and can be held up."""
    await put_keyspaces(store, make_keyspace(accounts=AccountsDeclaration()))
    return WatchedStore(store)


@pytest.fixture
async def cache(watched: WatchedStore) -> FactCache:
    """A cache that begins where the store is."""
    cache = FactCache(watched)
    async with watched.snapshot() as snapshot:
        cache.start_at(snapshot.revision)
    return cache


async def facts_of(cache: FactCache, digest: Digest) -> KeyFacts:
    facts = await cache.find_facts([digest])
    assert facts is not None
    return facts


async def test_one_change_stops_all_keys_and_sessions_of_an_account_and_no_others(
    watched: WatchedStore, cache: FactCache
) -> None:
    account, bystander = make_account(), make_account()
    cache.apply(await insert_accounts(watched, account, bystander), [])
    keys = [make_key(account_id=account.account_id) for _ in range(3)]
    keys.append(make_key(account_id=account.account_id, parent_key_id=keys[0].key_id))
    other = make_key(account_id=bystander.account_id)
    unregistered = make_key(account_id="acme")
    cache.apply(await insert_keys(watched, *keys, other, unregistered), [])
    sessions = [make_session(account), make_session(bystander)]
    cache.apply(await insert_sessions(watched, *sessions), [])
    for key in (*keys, other, unregistered):
        facts = await facts_of(cache, key.digest)
        assert facts.reason_at(NOW, None) is Reason.OK
    for session in sessions:
        found = await cache.find_session(session.session_id)
        assert found is not None
        assert found.reason_at(NOW) is Reason.OK
    disabled = account.disabled(START)
    cache.apply(await update_accounts(watched, disabled), [account_change(disabled)])
    assert all(cache.recall(key.digest.value) is None for key in keys)
    assert all(cache.recall(key.digest.value) for key in (other, unregistered))
    for key in keys:
        facts = await facts_of(cache, key.digest)
        assert facts.reason_at(NOW, None) is Reason.ACCOUNT_DISABLED
    ended = await cache.find_session(sessions[0].session_id)
    assert ended is not None
    assert ended.reason_at(NOW) is Reason.ACCOUNT_DISABLED


async def test_a_warm_session_asks_nothing_of_the_store(
    watched: WatchedStore, cache: FactCache
) -> None:
    account = make_account()
    session = make_session(account)
    cache.apply(await insert_accounts(watched, account), [])
    cache.apply(await insert_sessions(watched, session), [])
    found = await cache.find_session(session.session_id)
    before = watched.snapshots
    for _ in range(100):
        assert await cache.find_session(session.session_id) is found
    assert watched.snapshots == before


@pytest.mark.parametrize("kind", [ChangeKind.ACCOUNT, ChangeKind.SESSION])
async def test_a_session_read_before_a_change_is_thrown_away(
    watched: WatchedStore, cache: FactCache, kind: ChangeKind
) -> None:
    """The reading has begun, the session is ended meanwhile: what was read does not count."""
    account = make_account()
    session = make_session(account)
    cache.apply(await insert_accounts(watched, account), [])
    cache.apply(await insert_sessions(watched, session), [])
    gate = watched.hold_next_snapshot()
    reading = asyncio.create_task(cache.find_session(session.session_id))
    await gate.arrival()
    subject = account.account_id if kind is ChangeKind.ACCOUNT else session.session_id
    change = Change(kind, subject, KEYSPACE)
    async with watched.transaction() as transaction:
        if kind is ChangeKind.ACCOUNT:
            await transaction.end_sessions(account.account_id, START)
        else:
            await transaction.update_session(replace(session, end_time=START))
        revision = await commit_one(transaction, [change], make_event(subject))
    cache.apply(revision, [change])
    gate.open()
    found = await reading
    assert found is not None
    assert found.reason_at(NOW) is Reason.KEY_REVOKED


async def test_a_key_read_before_its_account_was_disabled_is_thrown_away(
    watched: WatchedStore, cache: FactCache
) -> None:
    account = make_account()
    key = make_key(account_id=account.account_id)
    cache.apply(await insert_accounts(watched, account), [])
    cache.apply(await insert_keys(watched, key), [])
    await cache.recogniser()
    gate = watched.hold_next_snapshot()
    reading = asyncio.create_task(facts_of(cache, key.digest))
    await gate.arrival()
    disabled = account.disabled(START)
    cache.apply(await update_accounts(watched, disabled), [account_change(disabled)])
    gate.open()
    assert (await reading).reason_at(NOW, None) is Reason.ACCOUNT_DISABLED


async def test_concurrent_questions_for_a_session_read_it_once(
    watched: WatchedStore, cache: FactCache
) -> None:
    account = make_account()
    session = make_session(account)
    cache.apply(await insert_accounts(watched, account), [])
    cache.apply(await insert_sessions(watched, session), [])
    await cache.recogniser()
    before = watched.snapshots
    found = await asyncio.gather(*(cache.find_session(session.session_id) for _ in range(20)))
    assert len({id(one) for one in found}) == 1
    assert watched.snapshots == before + 1


async def test_sessions_in_memory_are_bounded(watched: WatchedStore, store: Store) -> None:
    cache = FactCache(watched, capacity=3)
    account = make_account()
    sessions = [make_session(account) for _ in range(5)]
    await insert_accounts(watched, account)
    await insert_sessions(watched, *sessions)
    async with watched.snapshot() as snapshot:
        cache.start_at(snapshot.revision)
    for session in sessions:
        assert await cache.find_session(session.session_id) is not None
    assert len(cache._sessions) == 3


async def test_a_session_that_is_not_there_is_none(cache: FactCache) -> None:
    assert await cache.find_session(SessionId("ses_0")) is None
    assert await cache.find_facts([digest_of("x")]) is None


async def test_a_log_in_does_not_make_unknown_keys_be_asked_for_again(
    watched: WatchedStore, cache: FactCache
) -> None:
    """Else a flood of made-up keys would reach the store once for each log-in."""
    account = make_account()
    cache.apply(await insert_accounts(watched, account), [])
    await cache.find_facts([digest_of("made up")])
    before = watched.snapshots
    session = make_session(account)
    revision = await insert_sessions(watched, session)
    created = Change(ChangeKind.SESSION, session.session_id, KEYSPACE, created=True)
    cache.apply(revision, [created, account_change(make_account(), created=True)])
    await cache.find_facts([digest_of("made up")])
    assert watched.snapshots == before
