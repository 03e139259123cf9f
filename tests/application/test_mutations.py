"""The line in which mutations wait: who leaves it, and how many places one credential has."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from application.authority import Authority, refused
from keyfence_server.application import mutations
from keyfence_server.application.callers import Caller
from keyfence_server.application.mutations import MAX_MUTATIONS_PER_CREDENTIAL, Effect
from keyfence_server.application.ports import Transaction


class Held:
    """A mutation that stays in its transaction until it is told to end."""

    def __init__(self, authority: Authority) -> None:
        self._begun = asyncio.Event()
        self._over = asyncio.Event()
        self._task = asyncio.create_task(authority.mutations.run(authority.root, self._work))

    async def begin(self) -> None:
        await self._begun.wait()

    async def end(self) -> None:
        self._over.set()
        await self._task

    async def _work(self, _transaction: Transaction, _caller: Caller) -> Effect[None]:
        self._begun.set()
        await self._over.wait()
        return Effect(None)


async def test_a_caller_that_goes_away_leaves_the_line(authority: Authority) -> None:
    """Otherwise calls that were given up would make those of others wait."""
    held = Held(authority)
    await held.begin()
    before = await authority.revision()
    given_up = asyncio.create_task(authority.make())
    await asyncio.sleep(0)
    given_up.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await given_up
    await held.end()
    await authority.mutations.finish()
    assert await authority.revision() == before


async def test_a_mutation_that_waits_too_long_for_its_turn_says_that_nothing_was_changed(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutations, "_TURN_SECONDS", 0.05)
    held = Held(authority)
    await held.begin()
    before = await authority.revision()
    with pytest.raises(mutations.NotNow, match="nothing was changed") as refusal:
        await authority.make()
    assert refusal.value.reason == "STORE_UNAVAILABLE"
    await held.end()
    await authority.mutations.finish()
    assert await authority.revision() == before


async def test_a_mutation_that_has_begun_ends_without_its_caller(authority: Authority) -> None:
    """A commit without its fence would leave caches answering from before it."""
    held = Held(authority)
    await held.begin()
    held._task.cancel()
    held._over.set()
    await authority.mutations.finish()
    made = await authority.make()
    assert (await authority.check(made)).facts is not None


async def test_one_credential_does_not_take_the_places_of_others(authority: Authority) -> None:
    other = await authority.operator("acme")
    held = Held(authority)
    await held.begin()
    waiting = [
        asyncio.create_task(authority.make(by=authority.root))
        for _ in range(MAX_MUTATIONS_PER_CREDENTIAL - 1)
    ]
    await asyncio.sleep(0)
    with refused("LIMIT_REACHED", limit="mutations_per_credential"):
        async with asyncio.timeout(5):
            await authority.make(by=authority.root)
    of_other = asyncio.create_task(authority.make(by=other))
    await asyncio.sleep(0)
    await held.end()
    await asyncio.gather(*waiting, of_other)
    await authority.make(by=authority.root)
