"""Many keys at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from keyfence_server.application.ports import NewDigest, SlowHash, Store
from keyfence_server.domain.keys import Key, KeyId
from keyfence_server.domain.limits import Rate
from store_contract.harness import Topic
from support.builders import (
    KEYSPACE,
    commit_one,
    digest_of,
    insert_keys,
    key_change,
    make_event,
    make_key,
)
from support.clock import START


class ImportingContract(Topic):
    """Many keys at once."""

    async def test_many_keys_are_added_with_one_revision(self, store: Store) -> None:
        keys = [make_key() for _ in range(600)]
        async with store.transaction() as transaction:
            await transaction.insert_keys(keys)
            changes = [key_change(key, created=True) for key in keys]
            assert await commit_one(transaction, changes, make_event(KEYSPACE)) == 1
        async with store.snapshot() as snapshot:
            assert await snapshot.count_keys(KEYSPACE) == 600
            for key in (keys[0], keys[-1]):
                assert await snapshot.find_key(key.key_id) == replace(key, revision=1)

    async def test_if_one_of_many_is_there_none_is_added(self, store: Store) -> None:
        there = make_key()
        await insert_keys(store, there)
        with pytest.raises(RuntimeError, match="refused a row"):
            async with store.transaction() as transaction:
                await transaction.insert_keys([make_key(), make_key(digest=there.digest)])
        async with store.snapshot() as snapshot:
            assert await snapshot.count_keys(KEYSPACE) == 1

    async def test_digests_are_found_by_value_and_version(self, store: Store) -> None:
        kept = [digest_of("a", 1), digest_of("b", 2)]
        await insert_keys(store, *(make_key(digest=one) for one in kept))
        others = [digest_of("a", 2), digest_of("b", 1), digest_of("c", 1)]
        async with store.snapshot() as snapshot:
            assert set(await snapshot.find_digests([*others, *kept])) == set(kept)
            assert not await snapshot.find_digests([])

    async def test_many_digests_are_found(self, store: Store) -> None:
        keys = [make_key() for _ in range(600)]
        await insert_keys(store, *keys)
        digests = [key.digest for key in keys]
        async with store.snapshot() as snapshot:
            assert set(await snapshot.find_digests([digest_of("a", 1), *digests])) == set(digests)

    async def test_rows_of_many_keys_are_as_rows_of_one(self, store: Store) -> None:
        """Each field is another one than in the row before, or the same."""
        expiring = make_key(
            expire_time=START + timedelta(days=1, microseconds=7),
            allowed_addresses=("192.0.2.0/24",),
            labels={"b": "2", "a": "é"},
            rate_limit=Rate(60, timedelta(minutes=1)),
            preset="full",
        )
        keys = [make_key(), expiring, replace(expiring, key_id=KeyId("x"), digest=digest_of("x"))]
        async with store.transaction() as transaction:
            await transaction.insert_keys(keys)
            await commit_one(transaction, [key_change(keys[0])], make_event(KEYSPACE))
        async with store.snapshot() as snapshot:
            for key in keys:
                assert await snapshot.find_key(key.key_id) == replace(key, revision=1)

    async def test_slow_hashes_are_found_by_prefix_the_longest_first(self, store: Store) -> None:
        keys = [make_key() for _ in range(4)]
        prefixes = ("kf_live_ab", "kf_live_abcd", "kf_live_abcd", "KF_live_abcd")
        hashes = [slow_hash(key, prefix) for key, prefix in zip(keys, prefixes, strict=True)]
        await import_slow(store, keys, hashes)
        asked = ["kf_live_ab", "kf_live_abc", "kf_live_abcd"]
        async with store.snapshot() as snapshot:
            found = await snapshot.find_slow_hashes([KEYSPACE], asked, limit=9)
            assert found == [hashes[1], hashes[2], hashes[0]]
            assert await snapshot.find_slow_hashes([KEYSPACE], asked, limit=1) == found[:1]
            assert await snapshot.find_slow_hashes(["other"], asked, limit=9) == []
            assert await snapshot.find_slow_hashes([], asked, limit=9) == []
            assert await snapshot.count_slow_hashes(KEYSPACE, asked) == {
                "kf_live_ab": 1,
                "kf_live_abcd": 2,
            }

    async def test_a_digest_is_replaced_once_and_its_slow_hash_is_gone(self, store: Store) -> None:
        key, other = make_key(), make_key()
        await import_slow(store, [key, other], [slow_hash(key), slow_hash(other)])
        new = NewDigest(key.key_id, KEYSPACE, key.digest, digest_of("new", 2), "kf_live_new123")
        async with store.transaction() as transaction:
            assert await transaction.replace_digest(new)
            assert not await transaction.replace_digest(new)
            await commit_one(transaction, [key_change(key)], make_event(KEYSPACE))
        async with store.snapshot() as snapshot:
            assert await snapshot.find_key(key.key_id) == replace(
                key, digest=new.digest, display_prefix=new.display_prefix, revision=2
            )
            assert await snapshot.find_key(other.key_id) == replace(other, revision=1)
            both = [key.digest, new.digest]
            assert set(await snapshot.find_digests(both)) == set(both)
            assert (await store.load_keys([[key.digest]])).answers == [None]
            left = await snapshot.find_slow_hashes([KEYSPACE], ["kf_live_ab"], limit=9)
            assert [one.key_id for one in left] == [other.key_id]


def slow_hash(key: Key, prefix: str = "kf_live_ab") -> SlowHash:
    return SlowHash(key.key_id, key.keyspace, prefix, key.digest, f"$2b$04${key.key_id}")


async def import_slow(store: Store, keys: Sequence[Key], hashes: Sequence[SlowHash]) -> None:
    async with store.transaction() as transaction:
        await transaction.insert_keys(keys)
        await transaction.insert_slow_hashes(hashes)
        await commit_one(transaction, [key_change(keys[0])], make_event(KEYSPACE))
