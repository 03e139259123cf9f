"""Mutations that wait for one another share a transaction, a commit and a fence."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import cast

import pytest

from application.authority import Authority
from coherence.watched_store import Loss, WatchedStore, until
from keyfence_server.adapters.sql import SqlStore
from keyfence_server.application import mutations
from keyfence_server.application.callers import Caller
from keyfence_server.application.mutations import Effect
from keyfence_server.application.ports import FenceEnd, Revision, StoreUnavailable, Transaction
from keyfence_server.coherence.sole_fence import SoleFence
from keyfence_server.domain.errors import DomainError
from keyfence_server.domain.keys import KeyState
from keyfence_server.domain.reasons import Reason
from support.statements import watching

GROUP = 12


@pytest.fixture(autouse=True)
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group takes whatever waits, however slow the machine is."""
    monkeypatch.setattr(mutations, "_GROUP_SECONDS", 60.0)


class CountingFence(SoleFence):
    """Notes what it was asked to wait for."""

    def __init__(self, authority: Authority) -> None:
        async def no_predecessor() -> bool:
            return False

        super().__init__(authority.revisions, authority.hub, no_predecessor)
        self.waited: list[list[int]] = []
        self._may_end = asyncio.Event()
        self._may_end.set()

    def hold(self) -> None:
        """Lets no fence end from now on."""
        self._may_end.clear()

    def let_go(self) -> None:
        """Lets every fence end."""
        self._may_end.set()

    async def wait(self, revisions: Sequence[Revision]) -> FenceEnd:
        self.waited.append([one.number for one in revisions])
        await self._may_end.wait()
        return await super().wait(revisions)


@pytest.fixture
def fence(authority: Authority) -> Iterator[CountingFence]:
    counting = CountingFence(authority)
    authority.mutations._fence = counting
    yield counting
    counting.let_go()


class Held:
    """A mutation that has the store until it is let go."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._begun = asyncio.Event()
        self._over = asyncio.Event()
        self.task = asyncio.create_task(authority.mutations.run(authority.root, self._work))

    async def begin(self) -> None:
        await self._begun.wait()

    async def let_go(self) -> None:
        """Lets the mutations that were started join the line first."""
        for _ in range(5):
            await asyncio.sleep(0)
        self._over.set()
        await self.task

    async def _work(self, _transaction: Transaction, _caller: Caller) -> Effect[None]:
        self._begun.set()
        await self._over.wait()
        return Effect(None)


async def test_mutations_that_wait_share_one_transaction_and_one_fence(
    authority: Authority, watched: WatchedStore, fence: CountingFence
) -> None:
    before = await authority.revision()
    held = Held(authority)
    await held.begin()
    transactions = watched.transactions
    making = [asyncio.create_task(authority.make(scopes=["vps:read"])) for _ in range(GROUP)]
    await held.let_go()
    made = await asyncio.gather(*making)
    assert watched.transactions == transactions
    assert fence.waited == [list(range(before + 1, before + GROUP + 1))]
    assert sorted(one.facts.key.revision for one in made) == fence.waited[0]
    for one in made:
        assert (await authority.check(one, "vps:read")).reason is Reason.OK


async def test_mutations_that_come_during_a_fence_share_the_next_transaction(
    authority: Authority, fence: CountingFence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutations, "FENCE_SECONDS", 60.0)
    fence.hold()
    first = asyncio.create_task(authority.make())
    await until(lambda: len(fence.waited) == 1)
    others = []
    for _ in range(3):
        others.append(asyncio.create_task(authority.make()))
        # Long enough for a transaction of its own.
        await asyncio.sleep(0.05)
    fence.let_go()
    await asyncio.gather(first, *others)
    assert [len(revisions) for revisions in fence.waited] == [1, 3]


async def test_a_revocation_does_not_wait_for_the_fence_of_another_change(
    authority: Authority, fence: CountingFence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutations, "FENCE_SECONDS", 5.0)
    leaked = await authority.make()
    fence.hold()
    first = asyncio.create_task(authority.make())
    await until(lambda: len(fence.waited) == 2)
    revoked = asyncio.create_task(authority.revoke(None, leaked.facts.key_id))
    await until(lambda: len(fence.waited) == 3)
    assert not first.done()
    fence.let_go()
    await asyncio.gather(first, revoked)


async def test_a_fence_that_takes_long_does_not_stop_the_next_mutation(
    authority: Authority, fence: CountingFence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutations, "FENCE_SECONDS", 0.0)
    fence.hold()
    making = []
    for _ in range(2):
        making.append(asyncio.create_task(authority.make()))
        await until(lambda: len(fence.waited) == len(making))
    fence.let_go()
    await asyncio.gather(*making)


async def test_one_that_fails_is_told_why_and_the_others_are_carried_out(
    authority: Authority, fence: CountingFence
) -> None:
    held = Held(authority)
    await held.begin()
    first = asyncio.create_task(authority.make())
    wrong = asyncio.create_task(authority.make(scopes=["no:such"]))
    last = asyncio.create_task(authority.make())
    await held.let_go()
    with pytest.raises(DomainError, match="no:such"):
        await wrong
    revisions = [(await one).facts.key.revision for one in (first, last)]
    assert fence.waited == [revisions]
    assert revisions[1] == revisions[0] + 1 == await authority.revision()


async def test_where_the_commit_fails_no_caller_is_told_what_others_had_written(
    authority: Authority, watched: WatchedStore
) -> None:
    """The second call asks for the key that the first has made, and the commit of the first fails.
    The answer "made before" would be wrong."""
    held = Held(authority)
    await held.begin()
    watched.lose_next_commit(Loss.COMMIT)
    first = asyncio.create_task(authority.make(request_id="r-1"))
    again = asyncio.create_task(authority.make(request_id="r-1"))
    for one in (asyncio.create_task(held.let_go()), first, again):
        with pytest.raises(StoreUnavailable):
            await one
    await authority.make(request_id="r-1")


async def test_what_is_found_done_in_a_group_waits_for_the_groups_fence(
    authority: Authority, fence: CountingFence
) -> None:
    made = await authority.make()
    fence.waited.clear()
    held = Held(authority)
    await held.begin()
    revoking = [
        asyncio.create_task(authority.revoke_key.revoke(authority.root, made.facts.key_id))
        for _ in range(2)
    ]
    await held.let_go()
    done = [await one for one in revoking]
    assert [one.is_committed for one in done] == [True, False]
    assert [one.revision for one in done] == [await authority.revision()] * 2
    assert fence.waited == [[done[0].revision]]


async def test_a_revocation_overtakes_what_waits(
    authority: Authority, fence: CountingFence
) -> None:
    victim = await authority.make()
    held = Held(authority)
    await held.begin()
    making = [asyncio.create_task(authority.make()) for _ in range(GROUP)]
    await asyncio.sleep(0)
    revoking = asyncio.create_task(authority.revoke(None, victim.facts.key_id))
    before = await authority.revision()
    await held.let_go()
    revoked = await revoking
    assert revoked.key.state is KeyState.REVOKED
    assert revoked.key.revision == before + 1
    await asyncio.gather(*making)
    # Nothing that is not urgent has joined its group.
    assert [revoked.key.revision] in fence.waited


async def test_a_caller_that_is_revoked_in_a_group_changes_nothing_after_that(
    authority: Authority,
) -> None:
    operator = await authority.operator("acme")
    held = Held(authority)
    await held.begin()
    making = asyncio.create_task(authority.make(by=operator))
    await asyncio.sleep(0)
    revoking = asyncio.create_task(authority.revoke(None, operator.credential_id))
    await held.let_go()
    await revoking
    with pytest.raises(DomainError, match="not accepted"):
        await making


async def test_a_mutation_that_takes_long_shares_its_transaction_with_nothing(
    authority: Authority, watched: WatchedStore
) -> None:
    """No other mutation is to wait for its commit."""

    async def work(_transaction: Transaction, _caller: Caller) -> Effect[None]:
        return Effect(None)

    held = Held(authority)
    await held.begin()
    transactions = watched.transactions
    first = asyncio.create_task(authority.make())
    await asyncio.sleep(0)
    long = asyncio.create_task(authority.mutations.run(authority.root, work, ungrouped=True))
    await asyncio.sleep(0)
    last = asyncio.create_task(authority.make())
    await held.let_go()
    await asyncio.gather(first, long, last)
    assert watched.transactions == transactions + 2


STATEMENTS_OF_A_CREATION = 8
STATEMENTS_OF_A_REVOCATION = 7
STATEMENTS_OF_EACH_MORE = 1


async def test_how_many_statements_a_mutation_takes(
    authority: Authority, watched: WatchedStore
) -> None:
    """Each statement costs as much as a check, so none may creep in."""
    with watching(cast("SqlStore", watched._store)) as statements:
        made = await authority.make()
        creating = len(statements.sent)
        statements.sent.clear()
        await authority.revoke(None, made.facts.key_id)
        revoking = len(statements.sent)
        held = Held(authority)
        await held.begin()
        statements.sent.clear()
        making = [asyncio.create_task(authority.make()) for _ in range(GROUP)]
        await held.let_go()
        await asyncio.gather(*making)
        group = len(statements.sent)
    assert (creating, revoking) == (STATEMENTS_OF_A_CREATION, STATEMENTS_OF_A_REVOCATION)
    # Without what the one before them has read.
    assert group <= STATEMENTS_OF_A_CREATION + STATEMENTS_OF_EACH_MORE * (GROUP - 1)
