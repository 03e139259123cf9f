"""In which order mutations get the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from keyfence_server.application.turns import MOST_RESTRICTIVE_IN_A_ROW, Place, Turns


class Queue:
    """Mutations that wait for the one that has the store, and then note that they had it."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.served: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Around arrivals: another mutation has the store until the end."""
        async with self.turns.turn(("someone", "else"), restrictive=False):
            yield
            await asyncio.sleep(0)

    def arrive(self, name: str, place: Place, *, restrictive: bool = False) -> None:
        async def mutate() -> None:
            async with self.turns.turn(place, restrictive=restrictive):
                await asyncio.sleep(0)
                self.served.append(name)

        self.tasks[name] = asyncio.create_task(mutate())

    async def finish(self) -> list[str]:
        await asyncio.wait_for(
            asyncio.gather(*self.tasks.values(), return_exceptions=True), timeout=30
        )
        return self.served


async def test_a_revocation_overtakes_what_another_account_has_under_way() -> None:
    queue = Queue()
    async with queue.held():
        for number in range(400):
            queue.arrive(f"create {number}", ("acme", "greedy"))
        queue.arrive("revoke", ("acme", "victim"), restrictive=True)
    assert (await queue.finish())[0] == "revoke"


@pytest.mark.parametrize("place", [("acme", "victim"), ("other", "greedy"), ("system", "key_1")])
async def test_a_caller_waits_for_one_mutation_of_a_greedy_one(place: Place) -> None:
    queue = Queue()
    async with queue.held():
        for number in range(400):
            queue.arrive(f"create {number}", ("acme", "greedy"))
        queue.arrive("other", place)
    assert (await queue.finish()).index("other") <= 1


async def test_many_accounts_of_a_keyspace_are_one_to_another_keyspace() -> None:
    queue = Queue()
    async with queue.held():
        for number in range(400):
            queue.arrive(f"create {number}", ("acme", f"account {number}"))
        queue.arrive("first", ("other", "victim"))
        queue.arrive("second", ("other", "victim"))
    served = await queue.finish()
    assert [served.index(name) for name in ("first", "second")] == [1, 3]


async def test_one_callers_mutations_keep_their_order() -> None:
    queue = Queue()
    async with queue.held():
        for number in range(5):
            queue.arrive(str(number), ("acme", "anna"))
    assert await queue.finish() == list("01234")


async def test_restrictive_changes_do_not_stop_the_others() -> None:
    queue = Queue()
    async with queue.held():
        for number in range(400):
            queue.arrive(f"revoke {number}", ("acme", "greedy"), restrictive=True)
        queue.arrive("create", ("acme", "victim"))
    assert (await queue.finish()).index("create") <= MOST_RESTRICTIVE_IN_A_ROW


@pytest.mark.parametrize("is_held", [True, False])
async def test_a_mutation_that_is_given_up_passes_its_turn_on(*, is_held: bool) -> None:
    queue = Queue()
    async with queue.held():
        queue.arrive("gone", ("acme", "anna"))
        queue.arrive("next", ("acme", "anna"))
        await asyncio.sleep(0)
        if is_held:
            queue.tasks["gone"].cancel()
    if not is_held:
        # The turn has come to it, and it has not taken it up yet.
        queue.tasks["gone"].cancel()
    assert await queue.finish() == ["next"]
    async with queue.held():
        pass
