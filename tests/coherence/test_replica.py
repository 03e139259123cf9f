"""One server process among several, over a database and a feed that are made up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from keyfence_server.application.ports import (
    Change,
    ChangeKind,
    FenceEnd,
    Revision,
    StoreUnavailable,
)
from keyfence_server.coherence import replica as module
from keyfence_server.coherence.terms import LeaseTerms
from simulation.database import Database, SimulatedRegister
from simulation.loop import SimulatedLoop
from simulation.network import Network
from simulation.subjects import OPERATOR, PEPPER_BOX, TEXTS, at_first
from simulation.topology import Parts, Server, World


class Stage:
    """A database, and server processes that a test starts."""

    def __init__(self) -> None:
        self.loop = SimulatedLoop(random.Random(1))
        self.database = Database(self.loop, random.Random(1), at_first())
        parts = Parts()
        self.world = World(
            loop=self.loop,
            random=random.Random(1),
            database=self.database,
            network=Network(self.loop, random.Random(1)),
            parts=parts,
            terms=parts.terms(length=2.0, drift=0.0, slack=0.0),
            operator=OPERATOR,
            peppers=PEPPER_BOX,
            has_steady_clocks=True,
        )

    def server(self, name: str = "server") -> Server:
        server = Server(self.world, name)
        server.start()
        return server

    def commit(self, *changes: Change) -> int:
        """A mutation of a process that has ended, without a notification."""
        before = self.database.contents
        revision = before.revision + 1
        after = replace(
            before,
            revision=revision,
            changes=(*before.changes, *((revision, one) for one in changes)),
        )
        self.database.commit(after)
        return revision


def played(play: Callable[[Stage], Awaitable[None]]) -> None:
    stage = Stage()
    try:
        stage.loop.run(play(stage))
    finally:
        stage.loop.end()


def made(revision: int) -> list[Revision]:
    return [Revision(revision, tuple(keys(1)))]


def keys(count: int) -> list[Change]:
    return [Change(ChangeKind.KEY, f"key_{number}", "acme") for number in range(count)]


def test_half_a_revision_does_not_pass_for_a_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A revision of more changes than fit on a page comes in parts. Taken for whole, its
    other changes would never be applied."""
    monkeypatch.setattr(module, "_PAGE", 4)

    async def play(stage: Stage) -> None:
        server = stage.server()
        await asyncio.sleep(0.2)
        applied: list[tuple[int, int]] = []
        apply = server.replica.apply

        def noting(revision: int, changes: Any) -> None:
            applied.append((revision, len(changes)))
            apply(revision, changes)

        server.replica.apply = noting  # type: ignore[method-assign]
        for count in (3, 9, 2, 2, 3):
            stage.commit(*keys(count))
        await server.process.start(server.replica.catch_up())
        assert applied == [(1, 3), (2, 9), (3, 2), (4, 2), (5, 3)]
        assert server.replica.applied == 5

    played(play)


def test_a_process_that_missed_changes_which_were_removed_begins_anew() -> None:
    """Without the guard it would ask for ever, or take the changes that are left for all."""

    async def play(stage: Stage) -> None:
        server = stage.server()
        await asyncio.sleep(0.2)
        for _ in range(3):
            stage.commit(*keys(1))
        contents = stage.database.contents
        # It was struck off, and then the first two revisions were removed.
        stage.database.write(replace(contents, changes=contents.changes[2:], processes={}))
        with pytest.raises(StoreUnavailable, match="behind revision 0 were removed"):
            await server.process.start(server.replica.catch_up())
        assert server.replica.applied == 0
        await asyncio.sleep(2 * stage.world.terms.renewal_interval)
        assert server.replica.applied == 3
        assert server.replica.has_lease()

    played(play)


def test_silence_counts_from_when_it_was_seen() -> None:
    """I4: the register takes its time to answer, once. A renewal that came in meanwhile was
    made later than the question, and its lease lives a whole W from there."""

    async def play(stage: Stage) -> None:
        watching, silent = stage.server("watching"), stage.server("silent")
        await asyncio.sleep(0.2)
        ask = stage.database.ask

        async def slow(process: Any, act: Any) -> Any:
            if process is watching.process and "read_state" in repr(act) and len(renewals) < 5:
                await asyncio.sleep(1.5)
            return await ask(process, act)

        renewals: dict[int, float] = {}
        stage.database.ask = slow  # type: ignore[method-assign]
        while stage.loop.time() < 1010:
            row = stage.database.contents.processes.get("silent")
            if row is None:
                break
            renewals.setdefault(row.renewals, stage.loop.time())
            if len(renewals) == 5:
                silent.process.pause()
            await asyncio.sleep(0.01)
        assert stage.loop.time() - list(renewals.values())[-1] >= stage.world.terms.wait

    played(play)


def test_a_process_that_leaves_waits_for_the_leases_that_it_granted() -> None:
    """I3: no fence waits for the holders behind a process that is not registered."""

    async def play(stage: Stage) -> None:
        server = stage.server()
        await asyncio.sleep(0.2)
        server.hub.open("holder").renew(1, 0)
        leaving = server.process.start(server.stop())
        await asyncio.sleep(1.5)
        assert "server" in stage.database.contents.processes
        await asyncio.sleep(1.0)
        assert "server" not in stage.database.contents.processes
        assert not leaving.cancelled()

    played(play)


def test_on_a_new_timeline_only_time_ends_a_fence_until_w_has_passed() -> None:
    """I4: the register may have lost a process that still answers from memory."""

    async def play(stage: Stage) -> None:
        server = stage.server()
        await asyncio.sleep(1.0)
        stage.database.fail_over(0)

        async def fence() -> float:
            began = stage.loop.time()
            await server.process.start(server.fence.wait(made(stage.commit(*keys(1)))))
            return stage.loop.time() - began

        assert await fence() >= 1.9
        await asyncio.sleep(3)
        assert await fence() < 0.5

    played(play)


def test_notifications_of_another_timeline_are_ignored() -> None:
    """Its revisions are others, and would take the places of those that are to come."""

    async def play(stage: Stage) -> None:
        from keyfence_server.coherence.ports import Acknowledged, Committed  # noqa: PLC0415

        server = stage.server()
        await asyncio.sleep(0.2)
        for feed in stage.database.listeners:
            feed.hear(Committed(1, tuple(keys(1)), "another"))
            feed.hear(Acknowledged("somebody", 7, "another"))
        await asyncio.sleep(0.2)
        assert server.replica.applied == 0
        assert server.replica._acknowledged_by == {}

    played(play)


def test_a_process_with_longer_leases_is_waited_for_as_long_as_they_last() -> None:
    """A process that is struck off unawares may find others on the register when it comes back,
    under terms that it would not be let in with. Its own W bounds none of their leases."""

    async def play(stage: Stage) -> None:
        server = stage.server()
        await asyncio.sleep(0.2)
        register = SimulatedRegister(stage.database, server.process)
        register.insert("stranger", LeaseTerms(30.0, 0.0, 0.0))
        began = stage.loop.time()
        await server.process.start(server.fence.wait(made(stage.commit(*keys(1)))))
        assert stage.loop.time() - began >= 30.0
        await asyncio.sleep(5.0)
        assert "stranger" not in stage.database.contents.processes

    played(play)


def test_a_fence_says_what_ended_it() -> None:
    """How long it took does not: a silent process can be struck off at any moment of W."""

    async def play(stage: Stage) -> None:
        server, other = stage.server("here"), stage.server("other")
        await asyncio.sleep(1.0)

        async def end(revision: int) -> FenceEnd:
            found: FenceEnd = await server.process.start(server.fence.wait(made(revision)))
            return found

        assert await end(stage.commit(*keys(1))) is FenceEnd.ACKNOWLEDGEMENTS
        other.process.pause()
        await asyncio.sleep(1.0)
        began = stage.loop.time()
        # It is struck off before W is over.
        assert await end(stage.commit(*keys(1))) is FenceEnd.TIME
        assert stage.loop.time() - began < stage.world.terms.wait
        assert await end(stage.commit(*keys(1))) is FenceEnd.ACKNOWLEDGEMENTS
        stage.server("silent")
        await asyncio.sleep(0.5)
        register = SimulatedRegister(stage.database, server.process)
        register.insert("dead on arrival", stage.world.terms)
        assert await end(stage.commit(*keys(1))) is FenceEnd.TIME

    played(play)


def test_a_process_is_listed_with_how_long_it_has_been_silent() -> None:
    """Mutations wait for a process that has stopped."""

    async def play(stage: Stage) -> None:
        here, silent = stage.server("here"), stage.server("silent")
        await asyncio.sleep(1.0)
        silent.process.pause()
        await asyncio.sleep(1.5)
        seen = {one.process.process_id: one for one in await here.replica.list_processes()}
        assert seen["here"].silent_for < stage.world.terms.renewal_interval + 0.1
        assert 1.5 - stage.world.terms.renewal_interval < seen["silent"].silent_for < 2.5

    played(play)


def test_a_process_without_a_lease_does_not_answer_from_what_it_can_read() -> None:
    """I1: a database that can be read may have been replaced. A committed renewal shows that it has
    not. So the answer waits for a renewal, and fails when none comes."""

    async def play(stage: Stage) -> None:
        server, length = stage.server(), stage.world.terms.length
        await asyncio.sleep(0.2)
        check = partial(server.check, TEXTS[0])
        assert await server.process.start(check())
        ask = stage.database.ask

        async def read_only(process: Any, act: Any) -> Any:
            if "SimulatedRegister.renew" in repr(act):
                raise StoreUnavailable("it cannot be written to")
            return await ask(process, act)

        stage.database.ask = read_only  # type: ignore[method-assign]
        await asyncio.sleep(length)
        began = stage.loop.time()
        for longest in (length, 0.0):
            with pytest.raises(StoreUnavailable, match="no lease"):
                await server.process.start(check())
            assert stage.loop.time() - began <= longest + 0.01
            began = stage.loop.time()
        stage.database.ask = ask  # type: ignore[method-assign]
        await asyncio.sleep(stage.world.terms.renewal_interval)
        assert await server.process.start(check())

    played(play)


def test_a_process_that_stood_still_answers_as_soon_as_it_has_renewed() -> None:
    async def play(stage: Stage) -> None:
        server = stage.server()
        await asyncio.sleep(0.2)
        server.process.pause()
        await asyncio.sleep(2 * stage.world.terms.length)
        server.process.resume()
        began = stage.loop.time()
        assert await server.process.start(server.check(TEXTS[0]))
        assert stage.loop.time() - began < stage.world.terms.length / 2

    played(play)
