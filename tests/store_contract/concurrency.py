"""Several at once, in this process and in others."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from keyfence_server.application.ports import (
    Store,
)
from store_contract.harness import Harness, Topic
from store_contract.values import (
    ANY_KEY,
    revision_of,
)
from support.builders import (
    KEYSPACE,
    commit_one,
    insert_keys,
    key_change,
    make_event,
    make_key,
    update_keys,
)


class ConcurrencyContract(Topic):
    """Several at once, in this process and in others."""

    async def test_revisions_are_gapless_and_in_the_order_of_commits(
        self, harness: Harness, store: Store
    ) -> None:
        """Two stores on one database are what two processes are."""
        stores = [store, await harness.open()]
        acknowledged: list[int] = []

        async def mutate(number: int) -> None:
            key = make_key()
            async with stores[number % 2].transaction() as transaction:
                await transaction.insert_key(key)
                if number % 5 == 4:
                    return
                acknowledged.append(
                    await commit_one(transaction, [key_change(key)], make_event(key.key_id))
                )

        await asyncio.gather(*(mutate(number) for number in range(40)))
        assert sorted(acknowledged) == list(range(1, 33))
        async with store.snapshot() as snapshot:
            assert snapshot.revision == 32
            changes = await snapshot.list_changes(after=0, limit=100)
            assert [revision for revision, _ in changes] == list(range(1, 33))
            assert await snapshot.count_keys(KEYSPACE) == 32
        events = await harness.query("SELECT revision FROM audit_events ORDER BY revision")
        assert [revision for (revision,) in events] == list(range(1, 33))

    async def test_a_transaction_sees_all_that_was_committed_before_it(
        self, harness: Harness, store: Store
    ) -> None:
        """Read, then write what was read plus one: no increment may be lost."""
        stores = [store, await harness.open()]
        counter = make_key(display_name="0")
        await insert_keys(store, counter)

        async def increment(number: int) -> None:
            async with stores[number % 2].transaction() as transaction:
                key = await transaction.find_key(counter.key_id)
                assert key is not None
                assert key.revision == transaction.revision - 1
                await transaction.update_key(
                    replace(key, display_name=str(int(key.display_name) + 1))
                )
                await commit_one(transaction, [key_change(key)], make_event(key.key_id))

        await asyncio.gather(*(increment(number) for number in range(30)))
        async with store.snapshot() as snapshot:
            found = await snapshot.find_key(counter.key_id)
        assert found is not None
        assert found.display_name == "30"

    async def test_a_snapshot_is_of_one_revision_while_others_write(
        self, harness: Harness, store: Store
    ) -> None:
        writer = await harness.open()
        pair = [make_key("key_a", display_name="0"), make_key("key_z", display_name="0")]
        await insert_keys(store, *pair)
        async with store.snapshot() as before:
            first = await before.find_key(pair[0].key_id)
            assert first is not None
            await update_keys(writer, *(replace(key, display_name="1") for key in pair))
            await insert_keys(writer, make_key("key_m"))
            second = await before.find_key(pair[1].key_id)
            assert second is not None
            assert (before.revision, first.display_name, second.display_name) == (1, "0", "0")
            assert len(await before.list_keys(ANY_KEY, after=None, limit=9)) == 2
            assert await before.list_changes(after=1, limit=9) == []
        async with store.snapshot() as after:
            assert after.revision == 3
            assert len(await after.list_keys(ANY_KEY, after=None, limit=9)) == 3

    async def test_readers_never_see_half_of_a_mutation(
        self, harness: Harness, store: Store
    ) -> None:
        writer = await harness.open()
        pair = [make_key("key_a", display_name="1"), make_key("key_z", display_name="1")]
        await insert_keys(store, *pair)
        done = asyncio.Event()

        async def write() -> None:
            for _ in range(25):
                number = str((await revision_of(writer)) + 1)
                await update_keys(writer, *(replace(key, display_name=number) for key in pair))
            done.set()

        async def read() -> None:
            while not done.is_set():
                async with store.snapshot() as snapshot:
                    keys = [await snapshot.find_key(key.key_id) for key in pair]
                    assert [key.display_name for key in keys if key] == [str(snapshot.revision)] * 2
                    assert {key.revision for key in keys if key} == {snapshot.revision}

        await asyncio.gather(write(), read(), read())

    async def test_reading_goes_on_while_a_mutation_is_under_way(self, store: Store) -> None:
        async with store.transaction() as transaction:
            await transaction.insert_key(make_key())
            async with store.snapshot() as snapshot:
                assert snapshot.revision == 0
                assert await snapshot.count_keys(KEYSPACE) == 0

    async def test_many_waiting_mutations_do_not_starve_readers(self, store: Store) -> None:
        release = asyncio.Event()

        async def hold() -> None:
            async with store.transaction():
                await release.wait()

        waiting = [asyncio.create_task(hold()) for _ in range(100)]
        try:
            async with asyncio.timeout(60):
                for _ in range(3):
                    assert await revision_of(store) == 0
        finally:
            release.set()
            await asyncio.gather(*waiting)
