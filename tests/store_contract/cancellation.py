"""Callers that go away."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from keyfence_server.application.ports import (
    Store,
)
from keyfence_server.domain.keys import MAX_LINEAGE, Key
from store_contract.harness import Harness, Topic
from store_contract.values import (
    ANY_KEY,
    make_line,
    seconds_of,
)
from support.builders import (
    KEYSPACE,
    commit_one,
    insert_keys,
    key_change,
    make_event,
    make_key,
)


class CancellationContract(Topic):
    """Callers that go away."""

    async def test_a_mutation_cancelled_at_any_moment_is_whole_or_absent(
        self, harness: Harness, store: Store
    ) -> None:
        # The first mutation also opens a connection.
        await insert_keys(store, make_key())
        usual = await seconds_of(insert_keys, store, make_key())
        rounds = 60
        attempted: list[Key] = []
        for number in range(rounds):
            key = make_key()
            attempted.append(key)
            mutation = asyncio.create_task(insert_keys(store, key))
            asyncio.get_running_loop().call_later(1.3 * usual * number / rounds, mutation.cancel)
            await asyncio.wait([mutation])
            if not mutation.cancelled():
                mutation.result()
        assert await harness.count_open_transactions() == 0
        await insert_keys(store, make_key())
        async with store.snapshot() as snapshot:
            present = {
                key.key_id for key in await snapshot.list_keys(ANY_KEY, after=None, limit=99)
            }
            changes = await snapshot.list_changes(after=0, limit=99)
            assert {change.subject for _, change in changes} == present
            assert [revision for revision, _ in changes] == list(range(1, len(present) + 1))
            assert snapshot.revision == len(present)
        events = await harness.query("SELECT subject FROM audit_events")
        assert {subject for (subject,) in events} == present
        assert 3 <= len(present) < rounds + 3, "some were cancelled, and some were not"

    async def test_a_commit_under_way_is_carried_through_when_its_caller_is_cancelled(
        self, store: Store
    ) -> None:
        key = make_key()
        committing = asyncio.Event()

        async def mutate() -> None:
            async with store.transaction() as transaction:
                await transaction.insert_key(key)
                committing.set()
                await commit_one(transaction, [key_change(key)], make_event(key.key_id))

        mutation = asyncio.create_task(mutate())
        await committing.wait()
        mutation.cancel()
        for _ in range(3):  # and cancelled again while it cleans up
            await asyncio.wait([mutation], timeout=0)
            mutation.cancel()
        with pytest.raises(asyncio.CancelledError):
            await mutation
        async with store.snapshot() as snapshot:
            assert await snapshot.find_key(key.key_id) == replace(key, revision=1)

    async def test_a_mutation_cancelled_in_its_body_lets_go_of_everything(
        self, harness: Harness, store: Store
    ) -> None:
        reached = asyncio.Event()

        async def hang() -> None:
            async with store.transaction() as transaction:
                await transaction.insert_key(make_key())
                reached.set()
                await asyncio.Event().wait()

        for _ in range(12):
            reached.clear()
            mutation = asyncio.create_task(hang())
            await reached.wait()
            mutation.cancel()
            with pytest.raises(asyncio.CancelledError):
                await mutation
        assert await harness.count_open_transactions() == 0
        assert await insert_keys(store, make_key()) == 1

    async def test_one_that_waits_for_its_turn_can_be_cancelled(self, store: Store) -> None:
        async with store.transaction() as transaction:
            waiting = asyncio.create_task(insert_keys(store, make_key()))
            await asyncio.wait([waiting], timeout=0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await commit_one(transaction, [key_change(make_key())], make_event("x"))
        assert await insert_keys(store, make_key()) == 2

    async def test_a_snapshot_cancelled_at_any_moment_lets_go_of_its_connection(
        self, harness: Harness, store: Store
    ) -> None:
        await insert_keys(store, *make_line(MAX_LINEAGE))

        async def read() -> None:
            async with store.snapshot() as snapshot:
                async for key in snapshot.iterate_keys(KEYSPACE):
                    await snapshot.find_lineage(key.key_id)

        usual = await seconds_of(read)
        for number in range(40):
            reading = asyncio.create_task(read())
            asyncio.get_running_loop().call_later(1.2 * usual * number / 40, reading.cancel)
            await asyncio.wait([reading])
        await read()
        assert await harness.count_open_transactions() == 0
