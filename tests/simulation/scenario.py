"""One seed's scenario: who there is, what goes wrong, what is asked, and whether it was right.

Most of what happens does so around mutations, since that is where an old answer would be
found: just before one every holder is asked, so that it remembers; around its commit
things go wrong; from its OK on every holder is asked again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from keyfence_server.application.ports import FenceEnd, Revision, StoreUnavailable
from keyfence_server.domain.errors import DomainError
from simulation.cast import Cast, Participant
from simulation.checker import Checker, Slow, Stale, Violation
from simulation.database import Database, Record
from simulation.fault_plan import FaultPlan
from simulation.loop import Process, SimulatedLoop
from simulation.network import Network
from simulation.rogues import Rogue, drawn_rogues
from simulation.subjects import (
    KEYS,
    OPERATOR,
    PEPPER_BOX,
    ROGUE,
    TEXTS,
    Mutation,
    at_first,
    draw_mutation,
    turn_keyspace,
)
from simulation.topology import Parts, Server, SoleServer, World
from simulation.trouble import Trouble

_HEALING_SECONDS: Final = 15.0

_found: ContextVar[list[Record]] = ContextVar("found")


@dataclass
class Scenario:
    """Tells one.

    Attributes:
        mutations: how many were fenced.
    """

    seed: int
    parts: Parts = field(default_factory=Parts)
    log: Callable[[str], None] | None = None
    mutations: int = field(default=0, init=False)

    def run(self) -> None:
        """Raises `Violation`."""
        self._prepare(random.Random(self.seed))
        try:
            self.loop.run(self._run())
        finally:
            self.loop.end()

    @property
    def answers(self) -> int:
        """How many checks were answered."""
        return self.checker.answers

    def _prepare(self, source: random.Random) -> None:
        def another() -> random.Random:
            return random.Random(source.random())

        self.random = another()
        plan = self.plan = FaultPlan.drawn(source)
        self._note(str(plan))
        self.loop = SimulatedLoop(another())
        database = self.database = Database(self.loop, another(), at_first())
        database.on_mutation, database.on_commit = self._note_what_is_found, self._committed
        database.on_registration = self._has_come
        network = Network(self.loop, another())
        network.on_connection = self._connected
        self.world = World(
            loop=self.loop,
            random=another(),
            database=database,
            network=network,
            parts=self.parts,
            terms=self.parts.terms(length=plan.length, drift=plan.drift, slack=0.02),
            operator=OPERATOR,
            peppers=PEPPER_BOX,
            has_steady_clocks=plan.is_steady,
        )
        self.checker = Checker(database)
        self.cast = Cast(self.world, self._time_fences, is_sole=plan.is_sole)
        self.trouble = Trouble(self.world, self.cast, plan, another(), self._note, self._returned)
        self.rogues = drawn_rogues(self.seed)
        self.keys = self.random.sample(range(KEYS), plan.keys)
        self.hot_key = self.keys[0]
        self.violation: Violation | None = None
        self.under_way: dict[asyncio.Task[Any], Process] = {}
        self.at_commit: list[Callable[[], None]] = []

    # --- the plot -------------------------------------------------------------------------

    async def _run(self) -> None:
        plan = self.plan
        for _ in range(plan.servers):
            self.cast.add_server()
        for _ in range(plan.sidecars):
            self.cast.add_sidecar()
        for number in range(plan.sdks):
            self.cast.add_sdk(behind_sidecars=number % 2 == 0)
        for number, behaviour in enumerate(self.rogues):
            self._note(f"a rogue {behaviour}")
            self._add_rogue(f"rogue{number}", behaviour)
        await asyncio.sleep(self.random.uniform(0.02, 0.2))
        self.trouble.begin()
        work = [self._mutate_all_the_time() for _ in range(plan.mutators)]
        work += [self._check_all_the_time(), self._make_trouble()]
        actors = [asyncio.ensure_future(one) for one in work]
        ends = self.loop.time() + plan.seconds
        if self.rogues:
            # Long enough for a holder to be cut off.
            ends += 4 * plan.length
        while self.loop.time() < ends and self.violation is None:
            await asyncio.sleep(0.05)
            self._look_for_laggards()
            for actor in actors:
                if actor.done():
                    actor.result()
        for actor in actors:
            actor.cancel()
        self._raise_violation()
        if plan.heals:
            await self._heal()

    def _add_rogue(self, name: str, behaviour: str) -> None:
        def grantors() -> list[Any]:
            return [*self.cast.servers, *self.cast.sidecars]

        Rogue(self.world, name, behaviour, grantors, ROGUE).start()

    def _look_for_laggards(self) -> None:
        """I8: a holder that leaves a revision unacknowledged has no lease any more when its
        patience and W have passed."""
        for grantor in [*(one for one in self.cast.servers if one.is_up), *self.cast.sidecars]:
            if grantor.process.paused or grantor.process.stood_still:
                continue
            now = grantor.clock.now()
            terms = self.world.terms
            most = terms.patience(is_nested=grantor.grantor is not None) + terms.wait
            for holder in grantor.hub.grantor.known:
                since = holder.behind_since
                if since is not None and now - since > most + 0.01 and now < holder.lease_ends:
                    self._violate(f"{holder.holder_id} is behind and has a lease", Slow)

    def _note(self, text: str) -> None:
        if self.log is not None:
            now = self.loop.time() - 1000 if hasattr(self, "loop") else 0.0
            self.log(f"{now:8.4f} {text}")

    def _in(self, seconds: float, act: Callable[[], object]) -> None:
        self.loop.call_later(seconds, act, context=self.loop.world.context)

    async def _make_trouble(self) -> None:
        kinds = self.plan.momentary
        while kinds:
            await asyncio.sleep(self.random.expovariate(1) * self.plan.trouble_pause)
            self.trouble.strike(self.random.choice(kinds))

    def _time_fences(self, server: Server) -> None:
        """I4: a fence takes W at most, by the waiting process's clock, however the holders behave
        (I8). A process without a lease at the commit first reads the terms of the others. A sole
        server also waits for the leases of its predecessors."""
        wait = server.fence.wait
        most = self.world.terms.wait / (1 - self.plan.drift) + 0.01

        async def timed(revisions: Sequence[Revision]) -> FenceEnd:
            began, stood_still = self.loop.time(), server.process.stood_still
            had_lease = (
                server.has_outlasted_others()
                if isinstance(server, SoleServer)
                else server.replica.has_lease()
            )
            end = await wait(revisions)
            took = self.loop.time() - began - (server.process.stood_still - stood_still)
            if took > most and had_lease:
                what = (
                    f"the fence of {revisions[-1].number} took {took:.3f} s, more than {most:.3f}"
                )
                self._violate(what, Slow)
            return end

        server.fence.wait = timed  # type: ignore[method-assign]

    # --- mutations ------------------------------------------------------------------------

    async def _mutate_all_the_time(self) -> None:
        while True:
            await asyncio.sleep(self.random.expovariate(1) * self.plan.mutation_pause)
            number = self.random.choice(self.keys)
            for holder in self.cast.holders():
                if self.random.random() < 0.7:
                    self._in(self.random.random() * 0.03, partial(self._check, holder, number))
            victim = self.random.choice(self.cast.everyone())
            if self.random.random() < self.plan.hot:
                self._plan_trouble(victim)
            await asyncio.sleep(self.random.random() * 0.06)
            task = self._start_mutation(number, victim)
            if task is not None:
                # A caller gives up at some time; the mutation goes on.
                await asyncio.wait([task], timeout=self.plan.patience)

    def _plan_trouble(self, victim: Participant) -> None:
        """Has things go wrong around the next commit, for the same participant most times."""
        for kind in self.plan.momentary:
            if self.random.random() < 0.3:
                continue
            whom = victim if self.random.random() < 0.8 else None
            strike = partial(self.trouble.strike, kind, whom)
            if self.random.random() < 0.6:
                self._in(self.random.random() * 0.08, strike)
            else:
                seconds = self.random.choice((0.0, 0.01, 0.1, self.plan.length / 2))
                self.at_commit.append(partial(self._in, seconds * self.random.random(), strike))

    def _start_mutation(self, number: int, victim: Participant) -> asyncio.Task[None] | None:
        able = [one for one in self.cast.servers if one.is_up]
        if len(able) > 1 and victim in able and self.random.random() < 0.8:
            able.remove(victim)
        if not able:
            return None
        name, mutation = draw_mutation(self.random, number, self.database.contents)
        if self.random.random() < 0.25:
            # A caller that does not know whether it is done, or under way.
            again = partial(self._mutate_somewhere, f"{name} again", mutation, number)
            seconds = self.random.random() * self.plan.length / 2
            self.at_commit.append(partial(self._in, seconds, again))
        server = self.random.choice(able)
        task = self._mutate_at(server, name, mutation, number)
        for _ in range(self.random.choice((0, 0, 1, 2))):
            # At the same server at the same time, so they are committed as a group.
            other = self.random.choice(self.keys)
            name, mutation = draw_mutation(self.random, other, self.database.contents)
            self._mutate_at(server, name, mutation, other)
        return task

    def _mutate_somewhere(self, name: str, mutation: Mutation, number: int) -> None:
        able = [one for one in self.cast.servers if one.is_up]
        if able:
            self._mutate_at(self.random.choice(able), name, mutation, number)

    def _mutate_at(
        self, server: Server, name: str, mutation: Mutation, number: int
    ) -> asyncio.Task[None]:
        self.hot_key = number
        task = server.process.start(self._mutate(server, name, mutation, number))
        self.under_way[task] = server.process
        task.add_done_callback(lambda done: self.under_way.pop(done, None))
        return task

    async def _mutate(self, server: Server, name: str, mutation: Mutation, number: int) -> None:
        found: list[Record] = []
        _found.set(found)
        self._note(f"{server.process.name} {name} ...")
        try:
            done = await mutation(server)
        except (DomainError, StoreUnavailable) as error:
            self._note(f"{server.process.name} {name}: {type(error).__name__}")
            return
        self._note(f"{server.process.name} {name}: OK at {done.revision}")
        self.mutations += 1
        self.checker.promise(found[0], done.revision)
        for holder in self.cast.holders():
            self._check_from_now_on(holder, number)

    def _note_what_is_found(self, record: Record) -> None:
        found = _found.get(None)
        if found is not None:
            found[:] = [record]

    def _committed(self, record: Record) -> None:
        self._note(f"   committed {record.revision} on timeline {record.timeline}")
        acts, self.at_commit = self.at_commit, []
        for act in acts:
            act()

    def _returned(self) -> None:
        """Those whose mutations have failed try again at once."""
        for _ in range(self.random.choice((0, 1, 2, 3))):
            self._mutate_soon()

    def _mutate_soon(self) -> None:
        number = self.random.choice(self.keys)
        name, mutation = draw_mutation(self.random, number, self.database.contents)
        act = partial(self._mutate_somewhere, name, mutation, number)
        self._in(self.random.random() * 0.05, act)

    # --- checks ---------------------------------------------------------------------------

    async def _check_all_the_time(self) -> None:
        while True:
            await asyncio.sleep(self.random.expovariate(1) * self.plan.check_pause)
            holders = self.cast.holders()
            if holders:
                self._check(self.random.choice(holders), self.random.choice(self.keys))

    def _check_from_now_on(self, holder: Participant, number: int) -> None:
        """Right behind an OK is where an old answer would be found, if there is any."""
        for longest in (0.0, 0.01, self.plan.length / 2):
            if self.random.random() < 0.6:
                key = number if self.random.random() < 0.8 else self.random.choice(self.keys)
                self._in(self.random.random() * longest, partial(self._check, holder, key))

    def _connected(self, process: Process) -> None:
        """Who has come back may have left something behind."""
        if self.random.random() < 0.3:
            self._mutate_soon()
        self._has_come(process)

    def _has_come(self, process: Process) -> None:
        """Who has come, or come back, may remember too much, and so may those behind it."""
        for holder in self.cast.everyone():
            if process in (holder.process, holder.grantor and holder.grantor.process):
                for longest in (0.01, 0.03, 0.1):
                    is_hot = self.random.random() < 0.7
                    key = self.hot_key if is_hot else self.random.choice(self.keys)
                    self._in(self.random.random() * longest, partial(self._check, holder, key))

    def _check(self, holder: Participant, number: int) -> None:
        # Who has no lease has to ask for all, which is dear to simulate and shows little.
        if _has_lease(holder) or self.random.random() < 0.4:
            self._start_check(holder, number)

    def _start_check(self, holder: Participant, number: int) -> asyncio.Task[bool] | None:
        if holder.process.dead or (isinstance(holder, Server) and not holder.is_up):
            return None
        promises = self.checker.promises()
        task = holder.process.start(holder.check(TEXTS[number]))
        task.add_done_callback(lambda done: self._hold(done, holder, number, promises))
        return task

    def _hold(
        self, task: asyncio.Task[bool], holder: Participant, number: int, promises: int
    ) -> None:
        if task.cancelled() or isinstance(task.exception(), (StoreUnavailable, DomainError)):
            return
        answer = task.result()
        older = self.checker.hold(number, answer, promises)
        if older is not None:
            self._violate(
                f"{holder.process.name} said {'yes' if answer else 'no'} to key {number} after "
                f"the OK of revision {older.revision} on timeline {older.timeline}",
                Stale,
            )

    def _violate(self, what: str, kind: type[Violation] = Violation) -> None:
        self._note(f"VIOLATION: {what}")
        if self.violation is None:
            self.violation = kind(f"seed {self.seed}: {what}")

    def _raise_violation(self) -> None:
        if self.violation is not None:
            raise self.violation
        for fault in self.loop.faults:
            raise Violation(f"seed {self.seed}: {fault}") from fault.get("exception")

    # --- the end --------------------------------------------------------------------------

    async def _heal(self) -> None:
        """Everything comes back by itself, and everyone is right again."""
        self._note("== heal")
        self.trouble.end()
        heals_by = self.loop.time() + _HEALING_SECONDS
        await asyncio.sleep(0.5)
        while self.loop.time() < heals_by and not self._is_whole():
            await asyncio.sleep(0.1)
        for task, process in tuple(self.under_way.items()):
            if not process.dead and not task.done():
                self._violate(f"a mutation of {process.name} does not come to an end")
        self._raise_violation()
        took = [await self._last_mutation() for _ in range(3)]
        self._note("== last mutations")
        if min(took) > 0.2 and not self.rogues:
            self._violate(f"after all has healed, a mutation takes {min(took):.3f} s")
        for holder in self.cast.holders():
            for number in self.keys:
                if not await self._answers(holder, number):
                    self._violate(f"{holder.process.name} does not answer again")
            if not await self._comes_true(partial(_has_lease, holder)):
                self._violate(f"{holder.process.name} has no lease again")
        self._raise_violation()

    def _is_whole(self) -> bool:
        """Whether everyone has a lease and hears the notifications, and every fence has ended."""
        database = self.database
        if not all(process.dead for process in self.under_way.values()):
            return False
        if self.plan.is_sole:
            servers, everyone = self.cast.servers, self.cast.everyone()
            return all(server.is_up for server in servers) and all(map(_has_lease, everyone))
        listening = {feed.process for feed in database.listeners}
        return (
            database.epoch in database.contents.settled
            and len(database.contents.processes) == len(self.cast.servers)
            and all(server.process in listening for server in self.cast.servers)
            and all(_has_lease(holder) for holder in self.cast.everyone())
        )

    async def _last_mutation(self) -> float:
        """Has everyone take note of something. Tells how long it took."""
        began = self.loop.time()
        mutation = turn_keyspace(self.database.contents)
        task = self._mutate_at(self.cast.servers[0], "turn the keyspace", mutation, self.keys[0])
        await asyncio.wait([task], timeout=10)
        if self.database.records[-1].time < began or not task.done():
            raise Violation(f"seed {self.seed}: after all has healed, a mutation fails: {task}")
        return self.loop.time() - began

    async def _answers(self, holder: Participant, number: int) -> bool:
        """Whether it answers, now that all has healed, or very soon."""
        for _ in range(5):
            check = self._start_check(holder, number)
            if check is not None:
                await asyncio.wait([check], timeout=1)
                if check.done() and check.exception() is None:
                    return True
        return False

    async def _comes_true(self, condition: Callable[[], bool]) -> bool:
        for _ in range(100):
            if condition():
                return True
            # Not in step with renewals, and often: where clocks drift by a quarter, what a sidecar
            # has left to give can last for a twentieth of a second, five times a second.
            await asyncio.sleep(self.random.uniform(0.01, 0.03))
        return False


def _has_lease(holder: Participant) -> bool:
    return holder.lease.is_live(holder.clock.now())
