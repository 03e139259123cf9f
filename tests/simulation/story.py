"""One seed's story: who there is, what goes wrong, what is asked, and whether it was right.

The checker knows the order in which calls began and returned, and what the database
committed. A check must see some state that was true between the newest mutation whose
fenced OK came before the check began, and the check's end.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from application.authority import ACME, PEPPERS
from keyfence_server.application.audit import key_event
from keyfence_server.application.callers import Operator
from keyfence_server.application.mutations import Done, Effect
from keyfence_server.application.ports import Change, ChangeKind, StoreUnavailable, Transaction
from keyfence_server.application.update_key import KeyUpdate
from keyfence_server.domain.errors import DomainError
from keyfence_server.domain.facts import compile_facts
from keyfence_server.domain.keys import Key, KeyId, KeyState, state_of
from keyfence_server.domain.keyspaces import compile_keyspace
from keyfence_server.domain.secrets import Peppers
from keyfence_server.domain.system import SYSTEM_KEYSPACE
from simulation.database import Contents, Database, Record, SimulatedTransaction
from simulation.loop import Process, SimulatedLoop
from simulation.network import Network
from simulation.topology import SCOPE, Grants, Parts, Sdk, Server, Sidecar, World
from support.builders import make_key
from support.clock import START

_WIDE: Final = compile_keyspace(ACME, revision=0, create_time=START, update_time=START)
_NARROW: Final = compile_keyspace(
    replace(
        ACME,
        key_types=(replace(ACME.key_types[0], scope_cap=("dns:read",)), ACME.key_types[1]),
    ),
    create_time=START,
    update_time=START,
)
_PEPPERS: Final = Peppers(PEPPERS)
_KEYS: Final = 5
_LATER: Final = 4
"""The key that is not there in the beginning."""
_TEXTS: Final = [_WIDE.forms["secret", "live"].mint().reveal() for _ in range(_KEYS)]
_HEALING_SECONDS: Final = 15.0


def _key(number: int) -> Key:
    return make_key(
        f"key_{number:026d}",
        keyspace="acme",
        granted_scopes=(SCOPE,),
        digest=_PEPPERS.digest(_TEXTS[number]),
        parent_key_id=KeyId(f"key_{0:026d}") if number == 1 else None,
    )


_ALL: Final = [_key(number) for number in range(_KEYS)]
_ROOT: Final = make_key(
    "key_root",
    keyspace="system",
    key_type=next(iter(SYSTEM_KEYSPACE.declaration.key_types)).name,
    granted_scopes=("*",),
    bound_keyspaces=("*",),
)
_OPERATOR: Final = Operator(compile_facts((_ROOT,), SYSTEM_KEYSPACE))


def _at_first() -> Contents:
    keys = [key for key in _ALL if key is not _ALL[_LATER]]
    return Contents(
        revision=0,
        keys={key.key_id: key for key in (*keys, _ROOT)},
        keyspaces={"acme": _WIDE},
        changes=(),
        processes={},
        settled=frozenset({"1"}),
    )


def _is_allowed(number: int, contents: Contents) -> bool:
    """The truth, worked out without any of the code under test."""
    key = contents.keys.get(_ALL[number].key_id)
    if key is None or contents.keyspaces["acme"].declaration.key_types[0].scope_cap == (
        "dns:read",
    ):
        return False
    line = [key, *([contents.keys[key.parent_key_id]] if key.parent_key_id else [])]
    return state_of(line) is KeyState.ACTIVE and all(SCOPE in one.granted_scopes for one in line)


class Violation(AssertionError):
    """What must never happen has happened."""


class Stale(Violation):
    """A check saw what was before a fenced OK."""


@dataclass(kw_only=True)
class Fate:
    """How likely what is, drawn from the seed: each story has other troubles."""

    servers: int
    sidecars: int
    sdks: int
    seconds: float
    length: float
    drift: float
    trouble: dict[str, float]
    mutation_pause: float
    check_pause: float

    @classmethod
    def drawn(cls, source: random.Random) -> Fate:
        """Another one for each seed."""
        kinds = (
            "pause", "kill", "drain", "reset", "silence", "sever", "cut", "outage", "failover",
            "loss", "news", "questions", "answers", "lag", "slow",
        )  # fmt: skip
        trouble = {kind: source.choice((0.3, 1.0, 3.0)) for kind in kinds if source.random() < 0.3}
        return cls(
            servers=source.choice((1, 2, 2, 3)),
            sidecars=source.choice((0, 1, 1, 2)),
            sdks=source.choice((0, 1, 1, 2)),
            seconds=source.uniform(1, 3),
            length=source.choice((0.4, 0.6, 1.0)),
            drift=source.choice((0.01, 0.1, 0.2)),
            trouble=trouble,
            mutation_pause=source.choice((0.02, 0.1, 0.2)),
            check_pause=source.choice((0.02, 0.05)),
        )


_record: ContextVar[list[Record]] = ContextVar("record")


class RecordingTransaction:
    """Notes, for the checker, what a mutation has found and made."""

    @staticmethod
    def install(database: Database) -> None:
        """Has the database tell what each mutation stands on."""
        found = database.lock

        async def lock(transaction: SimulatedTransaction) -> None:
            await found(transaction)
            noted = _record.get(None)
            if noted is not None:
                noted[:] = [next(one for one in reversed(database.records) if not one.lost)]

        database.lock = lock  # type: ignore[method-assign]


@dataclass
class Story:
    """Tells one."""

    seed: int
    parts: Parts = field(default_factory=Parts)
    log: Callable[[str], None] | None = None
    adjust: Callable[[Fate], None] | None = None

    def tell(self) -> None:
        """Raises `Violation`."""
        source = random.Random(self.seed)
        self.random = random.Random(source.random())
        self.fate = Fate.drawn(source)
        if self.adjust is not None:
            self.adjust(self.fate)
        self.loop = SimulatedLoop(random.Random(source.random()))
        database = self.database = Database(self.loop, random.Random(source.random()), _at_first())
        RecordingTransaction.install(database)
        network = self.network = Network(self.loop, random.Random(source.random()))
        self.world = World(
            loop=self.loop,
            random=random.Random(source.random()),
            database=database,
            network=network,
            parts=self.parts,
            terms=self.parts.terms(length=self.fate.length, drift=self.fate.drift, slack=0.02),
            operator=_OPERATOR,
            peppers=_PEPPERS,
            reads_lag="lag" in self.fate.trouble,
        )
        self.oks: list[Record] = []
        self.index = {id(database.records[0]): 0}
        self.checks = self.mutations = self.answers = 0
        self.fences: list[float] = []
        self.violation: Violation | None = None
        self.under_way: dict[asyncio.Task[Any], Process] = {}
        self.names = 0
        try:
            self.loop.run(self._run())
        finally:
            self.loop.end()

    # --- the plot -------------------------------------------------------------------------

    async def _run(self) -> None:
        self.servers: list[Server] = []
        self.sidecars: list[Sidecar] = []
        self.sdks: list[Sdk] = []
        for _ in range(self.fate.servers):
            self._new_server()
        for _ in range(self.fate.sidecars):
            self._new_sidecar()
        for number in range(self.fate.sdks):
            self._new_sdk(behind_sidecars=number % 2 == 0)
        await asyncio.sleep(0.3)
        actors = [
            asyncio.ensure_future(work)
            for work in (
                self._mutate_all_the_time(),
                self._mutate_all_the_time(),
                self._check_all_the_time(),
                self._make_trouble(),
            )
        ]
        ends = self.loop.time() + self.fate.seconds
        while self.loop.time() < ends and self.violation is None:
            await asyncio.sleep(0.05)
            for actor in actors:
                if actor.done():
                    actor.result()
        for actor in actors:
            actor.cancel()
        self._raise_violation()
        await self._heal()

    def _note(self, text: str) -> None:
        if self.log is not None:
            self.log(f"{self.loop.time() - 1000:8.4f} {text}")

    def _name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}-{self.names}"

    def _new_server(self) -> None:
        server = Server(self.world, self._name("server"))
        self._time_fences(server)
        self.servers.append(server)
        server.start()

    def _new_sidecar(self) -> None:
        sidecar = Sidecar(self.world, self._name("sidecar"), lambda: self.servers)
        self.sidecars.append(sidecar)
        sidecar.start()

    def _new_sdk(self, *, behind_sidecars: bool) -> None:
        def grantors() -> list[Any]:
            return self.sidecars if behind_sidecars and self.sidecars else self.servers

        sdk = Sdk(self.world, self._name("sdk"), grantors)
        self.sdks.append(sdk)
        sdk.start()

    def _time_fences(self, server: Server) -> None:
        """I4: a fence takes W at most, by the clock of whoever waits."""
        wait = server.fence.wait
        most = self.world.terms.wait / (1 - self.fate.drift) + 0.01

        async def timed(revision: int, changes: Any) -> None:
            began, stood_still = self.loop.time(), server.process.stood_still
            await wait(revision, changes)
            took = self.loop.time() - began - (server.process.stood_still - stood_still)
            self.fences.append(took)
            if took > most:
                self._violate(f"the fence of {revision} took {took:.3f} s, more than {most:.3f}")

        server.fence.wait = timed  # type: ignore[method-assign]

    # --- mutations ------------------------------------------------------------------------

    async def _mutate_all_the_time(self) -> None:
        while True:
            await asyncio.sleep(self.random.expovariate(1) * self.fate.mutation_pause)
            able = [one for one in self.servers if one.is_up]
            if not able:
                continue
            server = self.random.choice(able)
            task = server.process.start(self._mutate(server))
            self.under_way[task] = server.process
            task.add_done_callback(lambda done: self.under_way.pop(done, None))
            # A caller gives up at some time; the mutation goes on.
            await asyncio.wait([task], timeout=self.random.choice((0.05, 1, 5)))

    async def _mutate(self, server: Server) -> None:
        noted: list[Record] = []
        _record.set(noted)
        name, act = self._draw_mutation(server)
        self._note(f"{server.process.name} {name} ...")
        try:
            done = await act()
        except (DomainError, StoreUnavailable) as error:
            self._note(f"{server.process.name} {name}: {type(error).__name__}")
            return
        self._note(f"{server.process.name} {name}: OK at {done.revision}")
        self.mutations += 1
        made = [
            one
            for one in self.database.records
            if one.revision == done.revision and self._index(one) >= self._index(noted[0])
        ]
        if made:
            self._promise(made[0])

    def _draw_mutation(self, server: Server) -> tuple[str, Callable[[], Awaitable[Done[Any]]]]:
        number = self.random.randrange(_KEYS)
        key = _ALL[number]
        kind = self.random.choices(
            ("revoke", "disable", "enable", "narrow", "widen", "create", "keyspace"),
            (1, 8, 8, 3, 3, 3, 1),
        )[0]
        updates: dict[str, dict[str, Any]] = {
            "disable": {"state": KeyState.DISABLED},
            "enable": {"state": KeyState.ACTIVE},
            "narrow": {"granted_scopes": ["dns:read"]},
            "widen": {"granted_scopes": [SCOPE]},
        }
        update = updates.get(kind)
        if update is not None:
            asked = KeyUpdate(key_id=key.key_id, fields=set(update), **update)
            return f"{kind} {number}", lambda: server.update.update(_OPERATOR, asked)
        if kind == "revoke":
            return f"{kind} {number}", lambda: server.revoke.revoke(_OPERATOR, key.key_id)
        if kind == "create":
            return f"{kind} {_LATER}", lambda: server.mutations.run_unasked(_create)
        keyspace = self.random.choice((_WIDE, _NARROW))
        narrow = "narrow" if keyspace is _NARROW else "widen"

        async def put(transaction: Transaction) -> Effect[None]:
            await transaction.put_keyspace(keyspace)
            return Effect(
                None,
                (Change(ChangeKind.KEYSPACE, "acme", "acme"),),
                key_event("keyspace.apply", _OPERATOR, _ROOT),
            )

        return f"{narrow} the keyspace", lambda: server.mutations.run_unasked(put)

    def _index(self, record: Record) -> int:
        records = self.database.records
        for number in range(len(self.index), len(records)):
            self.index[id(records[number])] = number
        return self.index[id(record)]

    def _promise(self, record: Record) -> None:
        """From now on, every check sees this or what came after it."""
        self.oks.append(record)
        # Right behind the OK is where an old answer would be found, if there is any.
        for holder in self._holders():
            if self.random.random() < 0.5:
                self.world.loop.world.call(
                    lambda holder=holder: self._check(holder, self.random.randrange(_KEYS))  # type: ignore[misc]
                )

    # --- checks ---------------------------------------------------------------------------

    def _holders(self) -> list[Grants | Sdk]:
        servers = [one for one in self.servers if one.is_up]
        return [*servers, *self.sidecars, *self.sdks]

    async def _check_all_the_time(self) -> None:
        while True:
            await asyncio.sleep(self.random.expovariate(1) * self.fate.check_pause)
            for _ in range(2):
                self._check(self.random.choice(self._holders() or [None]), self._some_key())

    def _some_key(self) -> int:
        return self.random.randrange(_KEYS)

    def _check(self, holder: Grants | Sdk | None, number: int) -> asyncio.Task[bool] | None:
        if holder is None or holder.process.dead:
            return None
        promised = len(self.oks)
        task = holder.process.start(holder.check(_TEXTS[number]))
        task.add_done_callback(lambda done: self._hold(done, holder, number, promised))
        return task

    def _hold(
        self, task: asyncio.Task[bool], holder: Grants | Sdk, number: int, promised: int
    ) -> None:
        self.checks += 1
        if task.cancelled() or isinstance(task.exception(), (StoreUnavailable, DomainError)):
            return
        answer = task.result()
        self.answers += 1
        floor = max((self._index(one) for one in self.oks[:promised] if not one.lost), default=0)
        possible = {
            _is_allowed(number, record.contents) for record in self.database.records[floor:]
        }
        if answer not in possible:
            record = self.database.records[floor]
            self._violate(
                f"{holder.process.name} said {'yes' if answer else 'no'} to key {number} after "
                f"the OK of revision {record.revision} on timeline {record.timeline}",
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

    # --- trouble --------------------------------------------------------------------------

    async def _make_trouble(self) -> None:
        trouble = self.fate.trouble
        database, network = self.database, self.network
        network.breaks = 0.002 * trouble.get("reset", 0)
        network.falls_silent = 0.002 * trouble.get("silence", 0)
        database.loses_news = 0.1 * trouble.get("news", 0)
        database.loses_questions = 0.01 * trouble.get("questions", 0)
        database.loses_answers = 0.01 * trouble.get("answers", 0)
        database.lag = 0.2 * trouble.get("lag", 0)
        if "slow" in trouble:
            network.slowest = database.slowest = 0.3 * trouble["slow"]
        acts = [(kind, weight) for kind, weight in trouble.items() if hasattr(self, f"_do_{kind}")]
        while acts:
            await asyncio.sleep(self.random.expovariate(1) / sum(weight for _, weight in acts))
            kind = self.random.choices([one for one, _ in acts], [one for _, one in acts])[0]
            self._note(f"-- {kind}")
            getattr(self, f"_do_{kind}")()

    def _everyone(self) -> list[Process]:
        return [one.process for one in self._all()]

    def _all(self) -> list[Grants | Sdk]:
        return [*self.servers, *self.sidecars, *self.sdks]

    def _for(self, seconds: float, undo: Callable[[], object]) -> None:
        self.loop.call_later(seconds, undo, context=self.loop.world.context)

    def _some_time(self) -> float:
        return self.random.choice((0.05, 0.3, 1.0, 2.0)) * self.random.uniform(0.5, 1.5)

    def _do_pause(self) -> None:
        process = self.random.choice(self._everyone())
        process.pause()
        self._note(f"   {process.name}")
        self._for(self._some_time(), process.resume)

    def _do_kill(self) -> None:
        server = self.random.choice(self.servers)
        self._end(server)
        self._new_server()

    def _do_drain(self) -> None:
        server = self.random.choice(self.servers)
        if server.is_up:
            self._note(f"   {server.process.name}")
            self.servers.remove(server)
            server.process.start(server.stop())
            self._new_server()

    def _end(self, server: Server) -> None:
        self._note(f"   {server.process.name}")
        self.servers.remove(server)
        server.is_up = False
        server.process.kill()
        for feed in tuple(self.database.listeners):
            if feed._process is server.process:
                del self.database.listeners[feed]
        for connection in tuple(self.network.connections):
            if connection.server is server.process and self.random.random() < 0.8:
                self._for(0.01, connection.reset_client)

    def _do_reset(self) -> None:
        if self.network.connections:
            self.random.choice(self.network.connections).reset()

    def _do_silence(self) -> None:
        if self.network.connections:
            self.random.choice(self.network.connections).silent = True

    def _do_sever(self) -> None:
        one, other = self.random.sample([*self._everyone(), self.loop.world], 2)
        self.network.severed.add((one, other))
        self._for(self._some_time(), lambda: self.network.severed.discard((one, other)))

    def _do_cut(self) -> None:
        process = self.random.choice(self.servers).process
        self.database.unreachable.add(process)
        self._note(f"   {process.name}")
        self._for(self._some_time(), lambda: self.database.unreachable.discard(process))

    def _do_outage(self) -> None:
        self.database.available = False
        self._for(self._some_time(), self._back)

    def _back(self) -> None:
        self.database.available = True

    def _do_failover(self) -> None:
        self.database.available = False
        self.database.fail_over(0)
        self._for(self.random.uniform(0.01, 0.5), self._back)

    def _do_loss(self) -> None:
        self.database.available = False
        self.database.fail_over(self.random.randrange(12))
        self._for(self.random.uniform(0.01, 0.5), self._back)

    def _is_whole(self) -> bool:
        """Whether everyone has a lease, and every fence has ended."""
        return (
            all(process.dead for process in self.under_way.values())
            and self.database.epoch in self.database.contents.settled
            and len(self.database.contents.processes) == len(self.servers)
            and all(holder.lease.is_live(holder.clock.now()) for holder in self._all())
        )

    async def _last_mutation(self) -> float:
        """Has everyone take note of something. Tells how long it took."""
        began = self.loop.time()
        server = self.servers[0]
        keyspace = self.random.choice((_WIDE, _NARROW))

        async def put(transaction: Transaction) -> Effect[None]:
            await transaction.put_keyspace(keyspace)
            return Effect(
                None,
                (Change(ChangeKind.KEYSPACE, "acme", "acme"),),
                key_event("keyspace.apply", _OPERATOR, _ROOT),
            )

        task = server.process.start(server.mutations.run_unasked(put))
        await asyncio.wait([task], timeout=10)
        if not task.done() or task.exception() is not None:
            raise Violation(f"seed {self.seed}: after all has healed, a mutation fails: {task}")
        return self.loop.time() - began

    async def _answers(self, holder: Grants | Sdk, number: int) -> bool:
        """Whether it answers, now that all has healed, or very soon."""
        for _ in range(5):
            check = self._check(holder, number)
            assert check is not None
            await asyncio.wait([check], timeout=1)
            if check.done() and check.exception() is None:
                return True
        return False

    @staticmethod
    async def _comes_true(condition: Callable[[], bool]) -> bool:
        for _ in range(20):
            if condition():
                return True
            await asyncio.sleep(0.1)
        return False

    # --- the end --------------------------------------------------------------------------

    async def _heal(self) -> None:
        """Everything comes back by itself, and everyone is right again."""
        self._note("== heal")
        database, network = self.database, self.network
        database.available = True
        database.unreachable.clear()
        database.loses_news = database.loses_questions = database.loses_answers = 0
        database.lag = 0
        network.severed.clear()
        network.breaks = network.falls_silent = 0
        network.slowest = database.slowest = 0.005
        for process in self.loop.processes:
            process.resume()
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
        if min(took) > 0.2:
            self._violate(f"after all has healed, a mutation takes {min(took):.3f} s")
        self._promise(database.records[-1])
        for holder in self._holders():
            for number in range(_KEYS):
                if not await self._answers(holder, number):
                    self._violate(f"{holder.process.name} does not answer again")
            if not await self._comes_true(partial(_has_lease, holder)):
                self._violate(f"{holder.process.name} has no lease again")
        self._raise_violation()


def _has_lease(holder: Grants | Sdk) -> bool:
    return holder.lease.is_live(holder.clock.now())


async def _create(transaction: Transaction) -> Effect[None]:
    key = _ALL[_LATER]
    if await transaction.find_key(key.key_id) is not None:
        return Effect(None)
    await transaction.insert_key(key)
    return Effect(
        None,
        (Change(ChangeKind.KEY, key.key_id, "acme", created=True),),
        key_event("key.create", _OPERATOR, key),
    )
