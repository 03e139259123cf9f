"""A sole process and those that were there before it: threat 1 across a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyfence.holder.clock import SystemBootClock
from keyfence_server.adapters.sql import SqlStore, open_store
from keyfence_server.coherence.downstream import DownstreamHub
from keyfence_server.coherence.grantor import Grantor
from keyfence_server.coherence.succession import Succession
from keyfence_server.coherence.terms import LeaseTerms

SHORT = LeaseTerms(length=0.3, drift=0.0, slack=0.0)
CLOCK = SystemBootClock()


class Sole:
    """A sole process, as far as succession is concerned."""

    def __init__(self, store: SqlStore, name: str, terms: LeaseTerms = SHORT) -> None:
        self.hub = DownstreamHub(Grantor(terms), CLOCK, lambda: float("inf"))
        self.succession = Succession(
            f"srv_{name}",
            name,
            register=store.register(),
            hub=self.hub,
            terms=terms,
            clock=CLOCK,
        )

    async def grant(self) -> None:
        """Grants a lease, which begins now."""
        await self.succession.register()
        stream = self.hub.open("holder")
        stream.renew(1, 0)
        await stream.next_message()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    store = await open_store(f"sqlite:///{tmp_path}/keyfence.db")
    yield store
    await store.close()


async def registered(store: SqlStore) -> list[str]:
    return [one.display_name for one in await store.register().list_processes()]


async def until_registered(store: SqlStore, names: list[str]) -> None:
    for _ in range(1000):
        if await registered(store) == names:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{await registered(store)} are registered, and not {names}")


async def test_a_process_that_grants_nothing_writes_nothing_and_is_not_waited_for(
    store: SqlStore,
) -> None:
    first = Sole(store, "first", LeaseTerms(length=60))
    await first.succession.start()
    await first.succession.stop()
    assert await registered(store) == []
    second = Sole(store, "second", LeaseTerms(length=60))
    await second.succession.start()
    assert not await second.succession.outlast()


@pytest.mark.parametrize("end", ["killed", "stopped"])
async def test_leases_of_the_process_before_are_waited_out(store: SqlStore, end: str) -> None:
    first = Sole(store, "first")
    await first.succession.start()
    await first.grant()
    granted = CLOCK.now()
    if end == "stopped":
        await first.succession.stop()
    second = Sole(store, "second")
    await second.succession.start()
    assert await second.succession.outlast()
    assert CLOCK.now() >= granted + SHORT.length
    await until_registered(store, [])
    await second.succession.stop()


async def test_a_process_leaves_when_nothing_that_it_granted_is_alive(store: SqlStore) -> None:
    first = Sole(store, "first")
    await first.succession.start()
    await first.grant()
    assert await registered(store) == ["first"]
    await first.hub.wait_lost()
    await first.succession.stop()
    assert await registered(store) == []


async def test_the_longer_of_two_lengths_counts(store: SqlStore) -> None:
    """The process before was set up otherwise, and its leases last as long as it said."""
    before = LeaseTerms(length=1.0, drift=0.1, slack=0.0)
    first = Sole(store, "first", before)
    await first.succession.start()
    await first.grant()
    granted = CLOCK.now()
    second = Sole(store, "second", SHORT)
    await second.succession.start()
    await second.succession.outlast()
    assert CLOCK.now() >= granted + before.margin(before.length)
    # Its own terms hold from then on.
    await second.grant()
    await until_registered(store, ["second"])
    await second.succession.stop()
