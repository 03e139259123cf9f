"""Many keys at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyfence_server.application.ports import Store
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
