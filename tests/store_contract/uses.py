"""How keys are used."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from keyfence_server.application.ports import (
    MAX_USE_COUNT,
    KeyUse,
    Store,
    StoreUnavailable,
)
from keyfence_server.domain.keys import KeyId
from store_contract.harness import Harness, Topic
from store_contract.values import (
    TODAY,
    a_use,
    add_uses,
    until_available,
)
from support.builders import (
    insert_keys,
    make_event,
    make_key,
    update_keys,
)
from support.clock import START


class UsesContract(Topic):
    """How keys are used."""

    async def test_what_was_never_used_is_left_out(self, store: Store) -> None:
        async with store.snapshot() as snapshot:
            assert await snapshot.find_uses([KeyId("key_1"), KeyId("a\0b")]) == {}
            assert await snapshot.find_uses([]) == {}
            days = await snapshot.list_use_days(KeyId("key_1"), first=TODAY, last=TODAY)
            assert days == []

    async def test_uses_add_up_by_key_and_by_day(self, store: Store) -> None:
        await add_uses(store, a_use("k1", count=2), a_use("k2", count=1))
        await add_uses(
            store,
            a_use("k1", count=3, day=TODAY, minute=1),
            a_use("k1", count=5, day=TODAY + timedelta(days=1), minute=2),
        )
        async with store.snapshot() as snapshot:
            uses = await snapshot.find_uses([KeyId("k1"), KeyId("k2"), KeyId("k3")])
            assert {key_id: use.count for key_id, use in uses.items()} == {"k1": 10, "k2": 1}
            assert uses[KeyId("k1")].last_used_time == START + timedelta(minutes=2)
            days = await snapshot.list_use_days(
                KeyId("k1"), first=TODAY, last=TODAY + timedelta(days=9)
            )
            assert days == [(TODAY, 5), (TODAY + timedelta(days=1), 5)]
            assert await snapshot.list_use_days(KeyId("k1"), first=TODAY, last=TODAY) == days[:1]

    async def test_a_count_saturates_and_stays_a_number_that_can_be_read(
        self, store: Store
    ) -> None:
        """SQLite makes a floating-point number of a sum beyond 64 bits, and PostgreSQL refuses
        it with all that is written together."""
        huge = [a_use("k", count=MAX_USE_COUNT), a_use("k", count=2**63 - 1)]
        for _ in range(3):
            await add_uses(store, *huge, a_use("other"))
        async with store.snapshot() as snapshot:
            uses = await snapshot.find_uses([KeyId("k"), KeyId("other")])
            days = await snapshot.list_use_days(KeyId("k"), first=TODAY, last=TODAY)
        assert {key_id: use.count for key_id, use in uses.items()} == {
            "k": MAX_USE_COUNT, "other": 3,
        }  # fmt: skip
        assert days == [(TODAY, MAX_USE_COUNT)]
        assert all(type(use.count) is int for use in uses.values())

    async def test_a_last_use_moves_only_forward(self, store: Store) -> None:
        """Whatever the order in which several servers write down what they know."""
        await add_uses(store, a_use("k", minute=5, address="192.0.2.5"))
        await add_uses(store, a_use("k", minute=3, address="192.0.2.3"))
        async with store.snapshot() as snapshot:
            use = (await snapshot.find_uses([KeyId("k")]))[KeyId("k")]
        assert use == KeyUse(START + timedelta(minutes=5), "192.0.2.5", 2)

    async def test_a_use_touches_nothing_else(self, harness: Harness, store: Store) -> None:
        """No record, no revision, no change that a cache would have to know of."""
        key = make_key()
        await insert_keys(store, key)
        tables = ("keys", "head", "changes", "audit_events", "audit_head")
        before = [await harness.query(f"SELECT * FROM {table}") for table in tables]
        await add_uses(store, a_use(key.key_id))
        assert [await harness.query(f"SELECT * FROM {table}") for table in tables] == before

    async def test_a_use_and_an_edit_at_once_lose_neither(
        self, harness: Harness, store: Store
    ) -> None:
        key = make_key(display_name="0")
        await insert_keys(store, key)
        other = await harness.open()

        async def edit(number: int) -> None:
            await update_keys(store, replace(key, display_name=str(number)))

        async def use(number: int) -> None:
            await add_uses(other, a_use(key.key_id, minute=number))

        await asyncio.gather(*(work(number) for number in range(1, 21) for work in (edit, use)))
        async with store.snapshot() as snapshot:
            found = await snapshot.find_key(key.key_id)
            use_ = (await snapshot.find_uses([key.key_id]))[key.key_id]
        assert found is not None
        assert (found.display_name, found.revision) == ("20", 21)
        assert (use_.count, use_.last_used_time) == (20, START + timedelta(minutes=20))

    async def test_nothing_is_written_down_while_the_store_is_away(
        self, harness: Harness, impatient_store: Store
    ) -> None:
        await add_uses(impatient_store, a_use("k"))
        await harness.take_away()
        with pytest.raises(StoreUnavailable):
            await add_uses(impatient_store, a_use("k"))
        with pytest.raises(StoreUnavailable):
            await impatient_store.append_events([make_event("x")])
        await harness.give_back()
        await until_available(impatient_store)
        async with impatient_store.snapshot() as snapshot:
            assert (await snapshot.find_uses([KeyId("k")]))[KeyId("k")].count == 1
            assert (await snapshot.end_of_events()).count == 0
