"""The database goes, and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from keyfence_server.application.ports import (
    Store,
    StoreUnavailable,
)
from keyfence_server.domain.keys import Key
from store_contract.harness import Category, Harness, Topic, category
from store_contract.values import (
    ANY_KEY,
    CANARY,
    everything_about,
    revision_of,
)
from support.builders import (
    insert_keys,
    make_key,
)


@asynccontextmanager
async def away(harness: Harness) -> AsyncIterator[None]:
    """The database is away."""
    await harness.take_away()
    try:
        yield
    finally:
        await harness.give_back()


class AvailabilityContract(Topic):
    """The database goes, and comes back."""

    async def test_ping_returns_while_the_store_answers(self, store: Store) -> None:
        await store.ping()

    async def test_mutations_refuse_whole_while_the_database_is_away(
        self, harness: Harness, impatient_store: Store
    ) -> None:
        key = make_key()
        await insert_keys(impatient_store, key)
        async with away(harness):
            for _ in range(2):
                with pytest.raises(StoreUnavailable):
                    await insert_keys(impatient_store, make_key())
        await self._assert_healed(impatient_store, key)

    @category(Category.READS_FAIL_WITHOUT_THE_DATABASE)
    async def test_reads_fail_while_the_database_is_away(
        self, harness: Harness, impatient_store: Store
    ) -> None:
        key = make_key()
        await insert_keys(impatient_store, key)
        async with away(harness):
            with pytest.raises(StoreUnavailable):
                await impatient_store.ping()
            with pytest.raises(StoreUnavailable):
                await revision_of(impatient_store)
        await self._assert_healed(impatient_store, key)

    @category(Category.READS_OUTLAST_THE_DATABASE)
    async def test_reads_go_on_while_the_database_is_away(
        self, harness: Harness, impatient_store: Store
    ) -> None:
        await insert_keys(impatient_store, make_key())
        async with away(harness):
            await impatient_store.ping()
            assert await revision_of(impatient_store) == 1

    async def test_a_database_that_was_away_unnoticed_is_found_again_without_an_error(
        self, harness: Harness, store: Store
    ) -> None:
        """Idle connections of the pool broke. No caller may get an error for that."""
        key = make_key()
        await insert_keys(store, key)
        await asyncio.gather(*(revision_of(store) for _ in range(5)))
        async with away(harness):
            pass
        await self._assert_healed(store, key)

    async def _assert_healed(self, store: Store, only: Key) -> None:
        await store.ping()
        async with store.snapshot() as snapshot:
            assert snapshot.revision == 1
            assert await snapshot.list_keys(ANY_KEY, after=None, limit=9) == [
                replace(only, revision=1)
            ]
        assert await insert_keys(store, make_key()) == 2

    async def test_what_is_unavailable_says_so_without_saying_how_to_get_in(
        self, harness: Harness, impatient_store: Store
    ) -> None:
        key = make_key(display_name=CANARY)
        async with away(harness):
            with pytest.raises(StoreUnavailable) as caught:
                await insert_keys(impatient_store, key)
        assert str(caught.value)
        shown = everything_about(caught.value)
        assert CANARY not in shown
        assert "://" not in shown
