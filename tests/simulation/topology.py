"""Server processes, sidecars and SDK memories, put together as the server and the SDK do it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from google.protobuf.message import Message

from keyfence import rpcs
from keyfence.holder.fills import Fill
from keyfence.holder.lease import HolderLease
from keyfence.holder.local_checks import LocalChecks
from keyfence.holder.memory import Memory
from keyfence.holder.session import HolderSession, StreamBroken
from keyfence.rpcs import Rpc
from keyfence.v1 import keyspace_pb2
from keyfence.v1 import replication_service_pb2 as messages
from keyfence_server.adapters.rate_limits.memory import MemoryCounter
from keyfence_server.adapters.upstream import store as upstream_store
from keyfence_server.adapters.upstream.following import Following
from keyfence_server.adapters.upstream.store import (
    PresentedDigests,
    UpstreamStore,
    keyspaces_from,
)
from keyfence_server.application.callers import Caller
from keyfence_server.application.heavy_work import HeavyWork
from keyfence_server.application.mutations import Mutations
from keyfence_server.application.ports import (
    AuditEvent,
    FactSource,
    Fence,
    StoreUnavailable,
    UseToAdd,
)
from keyfence_server.application.presented_keys import Digests, PresentedKeys
from keyfence_server.application.quotas import ChangeQuotas
from keyfence_server.application.rate_limits import RateLimits
from keyfence_server.application.revoke_key import RevokeKey
from keyfence_server.application.update_key import UpdateKey
from keyfence_server.application.write_behind import WriteBehind
from keyfence_server.coherence.applied_revisions import AppliedRevisions
from keyfence_server.coherence.downstream import DownstreamHub
from keyfence_server.coherence.fact_cache import FactCache
from keyfence_server.coherence.grantor import Grantor
from keyfence_server.coherence.leased_facts import (
    AwaitedLease,
    LeasedFacts,
    fresh_memory_per_question,
)
from keyfence_server.coherence.ports import BootClock
from keyfence_server.coherence.replica import ListProcesses, Replica, SeenProcess
from keyfence_server.coherence.shared_fence import SharedFence
from keyfence_server.coherence.sole_fence import SoleFence
from keyfence_server.coherence.succession import Succession
from keyfence_server.coherence.terms import LeaseTerms
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.reasons import Reason
from keyfence_server.rpc.holders import Holders
from keyfence_server.rpc.pipeline import StreamCall
from keyfence_server.rpc.replication import ReplicationService
from keyfence_server.rpc.server import Limits
from simulation.database import Database, SimulatedFeed, SimulatedRegister, SimulatedStore
from simulation.loop import DriftingClock, Process, SimulatedLoop
from simulation.network import Connection, Network
from support.clock import FrozenClock

CONNECT_SECONDS: Final = 0.5
SCOPE: Final = "vps:read"


async def _all_uses(uses: Sequence[UseToAdd], caller: Caller) -> Sequence[UseToAdd]:
    return uses


async def _no_processes() -> list[SeenProcess]:
    return []


async def nothing() -> None:
    """There is nothing to do."""


class NoNotes:
    """Where nothing is written down."""

    async def add_uses(self, uses: Sequence[UseToAdd]) -> None:
        """Nothing."""

    async def append_events(self, events: Sequence[AuditEvent]) -> None:
        """Nothing."""


@dataclass(kw_only=True)
class Parts:
    """The classes that the processes are built from. A seeded bug replaces one of them.

    Attributes:
        keeps_names: whether the successor of a server registers under the server's name.
    """

    lease: type[HolderLease] = HolderLease
    session: type[HolderSession] = HolderSession
    memory: type[Memory] = Memory
    local_checks: type[LocalChecks] = LocalChecks
    grantor: type[Grantor] = Grantor
    hub: type[DownstreamHub] = DownstreamHub
    cache: type[FactCache] = FactCache
    facts: type[LeasedFacts] = LeasedFacts
    revisions: type[AppliedRevisions] = AppliedRevisions
    replica: type[Replica] = Replica
    fence: type[SharedFence] = SharedFence
    terms: type[LeaseTerms] = LeaseTerms
    register: type[SimulatedRegister] = SimulatedRegister
    succession: type[Succession] = Succession
    keeps_names: bool = False


@dataclass(kw_only=True)
class World:
    """What all participants share."""

    loop: SimulatedLoop
    random: random.Random
    database: Database
    network: Network
    parts: Parts
    terms: LeaseTerms
    operator: Caller
    peppers: Digests
    has_steady_clocks: bool

    def clock(self, name: str) -> DriftingClock:
        """A clock for a process."""
        source = random.Random(f"{name} {self.random.random()}")
        return DriftingClock(self.loop, self.terms.drift, source, is_steady=self.has_steady_clocks)


class Grants:
    """A process that grants leases downstream."""

    process: Process
    hub: DownstreamHub
    source: FactSource
    presented: PresentedKeys
    service: ReplicationService
    is_up: bool = False
    lease: HolderLease
    clock: DriftingClock

    def __init__(self, world: World) -> None:
        self.world = world

    @property
    def grantor(self) -> Grants | None:
        """Who it has its leases from, if that is not the database."""
        return None

    def offer(
        self,
        list_processes: ListProcesses,
        clock: BootClock,
        name: str,
        before_granting: Callable[[], Awaitable[None]],
    ) -> None:
        """Begins to serve those downstream."""
        self.service = ReplicationService(
            self.hub,
            self.source,
            self.presented,
            list_processes,
            _all_uses,
            clock,
            WriteBehind(NoNotes(), FrozenClock()),
            name,
            Holders(self.hub, clock, FrozenClock(), Limits(), before_granting),
        )
        self.is_up = True

    async def sync(self, caller: Caller, connection: Connection) -> None:
        """One holder's stream."""

        # The simulation has no operator credentials: every holder is let in.
        async def reidentify() -> Caller:
            return caller

        call = StreamCall(connection.read, connection.write, reidentify, nothing)
        await self.service.sync(call, caller)

    async def fetch(self, request: messages.FetchFactsRequest) -> messages.FetchFactsResponse:
        """Facts for those downstream."""
        return await self.service.fetch_facts(request, self.world.operator)

    async def fetch_all_keyspaces(
        self, request: messages.FetchKeyspacesRequest
    ) -> messages.FetchKeyspacesResponse:
        """Keyspaces for those downstream."""
        return await self.service.fetch_keyspaces(request, self.world.operator)

    async def check(self, text: str) -> bool:
        """Whether a key may, as this process sees it."""
        found = await self.presented.find(text)
        return isinstance(found, KeyFacts) and _may(found)


_Compile = Callable[[Iterable[keyspace_pb2.Keyspace]], list[Keyspace]]
_compiled: Final[dict[bytes, Keyspace]] = {}


def _compiled_once(compile_all: _Compile) -> _Compile:
    """Spares compiling the same few keyspaces again in every scenario. Each time it is
    another object, as it is for a real sidecar."""

    def compiled(found: Iterable[keyspace_pb2.Keyspace]) -> list[Keyspace]:
        keyspaces = []
        for message in found:
            text = message.SerializeToString(deterministic=True)
            if text not in _compiled:
                (_compiled[text],) = compile_all([message])
            keyspaces.append(copy(_compiled[text]))
        return keyspaces

    return compiled


vars(upstream_store)["keyspaces_from"] = _compiled_once(keyspaces_from)


def _may(facts: KeyFacts) -> bool:
    return facts.reason_at(0.0, None) is Reason.OK and SCOPE in facts.effective_scopes


class Server(Grants):
    """A server process on the database."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world)
        self.process = world.loop.process(name)
        self.process.context.run(self._make, name)

    def _make(self, name: str) -> None:
        world, parts = self.world, self.world.parts
        clock = self.clock = self.process.clock = world.clock(name)
        # It has the parts of the port that are asked for here, and no more.
        store: Any = SimulatedStore(world.database, self.process)
        self.lease = parts.lease()
        self.hub = parts.hub(parts.grantor(world.terms), clock, lambda: self.lease.until)
        self.cache = parts.cache(
            SimulatedStore(world.database, self.process, may_lag=True),
            capacity=3,
            unknown_capacity=2,
        )
        self.register = parts.register(world.database, self.process)
        self.replica = parts.replica(
            name,
            name,
            store=store,
            register=self.register,
            feed=SimulatedFeed(world.database, self.process),
            revisions=parts.revisions(self.cache, self.hub),
            hub=self.hub,
            lease=self.lease,
            terms=world.terms,
            clock=clock,
            on_unavailable=lambda _: None,
        )
        self.fence: Fence = parts.fence(self.replica, self.register, self.hub, world.terms, clock)
        without_lease = AwaitedLease(
            self.cache, self.lease, clock, self.replica.lease_moved, world.terms.length
        )
        self.source = parts.facts(self.cache, self.lease, clock, without_lease)
        self._take_up(store)

    def _take_up(self, store: Any) -> None:
        clock = FrozenClock()
        quotas = ChangeQuotas(RateLimits(clock, MemoryCounter(clock), is_alone=True))
        self.mutations = Mutations(store, self.fence, clock, quotas)
        self.revoke = RevokeKey(self.mutations, FrozenClock())
        self.update = UpdateKey(self.mutations, FrozenClock())
        self.presented = PresentedKeys(self.source, self.world.peppers)

    def start(self) -> None:
        """Starts it, again and again if the database is away."""
        self.process.start(self._start())

    async def _start(self) -> None:
        while True:
            try:
                await self._follow_store()
                break
            except StoreUnavailable:
                await asyncio.sleep(0.1)

    async def _follow_store(self) -> None:
        await self.replica.start()
        self.offer(self.replica.list_processes, self.clock, self.process.name, nothing)

    async def stop(self) -> None:
        """Ends it in order."""
        self.is_up = False
        self.hub.close_all()
        await self.mutations.finish()
        await self._leave_store()
        self.process.kill()

    async def _leave_store(self) -> None:
        await self.replica.stop()


class SoleServer(Server):
    """A server process that has the database to itself, and needs no lease."""

    def _make(self, name: str) -> None:
        world, parts = self.world, self.world.parts
        clock = self.clock = self.process.clock = world.clock(name)
        store: Any = SimulatedStore(world.database, self.process)
        self._store = store
        endless: Any = EndlessLease()
        self.lease = endless
        self.hub = parts.hub(parts.grantor(world.terms), clock, lambda: self.lease.until)
        self.cache = parts.cache(store, capacity=3, unknown_capacity=2)
        self.source = self.cache
        self._revisions = parts.revisions(self.cache, self.hub)
        self._succession = parts.succession(
            name,
            name,
            register=parts.register(world.database, self.process),
            hub=self.hub,
            terms=world.terms,
            clock=clock,
        )
        self.fence = SoleFence(self._revisions, self.hub, self._succession.outlast)
        self._take_up(store)

    async def _follow_store(self) -> None:
        await self._succession.start()
        async with self._store.snapshot() as snapshot:
            self._revisions.restart(snapshot.revision, self.process.name)
        self.offer(_no_processes, self.clock, self.process.name, self._succession.register)

    async def _leave_store(self) -> None:
        await self._succession.stop()

    def has_outlasted_others(self) -> bool:
        """Whether no lease from before this process can be alive."""
        return self.clock.now() >= self._succession._expire_at


class EndlessLease:
    """In the place of a lease, for a process that needs none."""

    until: Final = float("inf")

    def is_live(self, _now: float) -> bool:
        """Always."""
        return True


class Holder:
    """What a sidecar and an SDK have in common: a session with one grantor after another."""

    def __init__(
        self,
        world: World,
        process: Process,
        grantors: Callable[[], Sequence[Grants]],
        caller: Caller | None = None,
    ) -> None:
        self.world = world
        self._process = process
        self._caller = caller or world.operator
        self._grantors = grantors
        self._next = 0
        self._generation = 0
        self.grantor: Grants | None = None

    async def open_stream(self) -> Connection:
        """Raises `StreamBroken`."""
        grantors = self._grantors()
        grantor = grantors[self._next % len(grantors)]
        self._next += 1
        network = self.world.network
        await asyncio.sleep(network.delay(self._process, grantor.process))
        connected: asyncio.Future[Connection] = self.world.loop.create_future()

        def accept() -> None:
            if not grantor.is_up:
                return
            connection = Connection(network, self._process, grantor.process)
            connection.accept(partial(grantor.sync, self._caller))
            self.world.loop.call_later(
                network.delay(self._process, grantor.process),
                lambda: None if connected.done() else connected.set_result(connection),
                context=self._process.context,
            )

        if network.reaches(self._process, grantor.process):
            takes = network.delay(self._process, grantor.process)
            self.world.loop.call_later(takes, accept, context=grantor.process.context)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await connected
        except TimeoutError:
            raise StreamBroken("cannot be reached") from None
        self.grantor = grantor
        self._generation += 1
        return connection

    async def ask(self, question: str, *arguments: Any) -> Any:
        """Asks the server of the stream. Raises `StoreUnavailable`."""
        grantor, generation = self.grantor, self._generation
        if grantor is None:
            raise StoreUnavailable("no grantor was reached yet")
        answer = await self.world.network.ask(
            self._process, grantor.process, partial(getattr(grantor, question), *arguments)
        )
        if generation != self._generation:
            raise StoreUnavailable("the connection was given up")
        return answer


class Sidecar(Grants):
    """A server with another one in the place of the database."""

    def __init__(self, world: World, name: str, grantors: Callable[[], Sequence[Grants]]) -> None:
        super().__init__(world)
        self.process = world.loop.process(name)
        self.process.context.run(self._make, name, grantors)

    def _make(self, name: str, grantors: Callable[[], Sequence[Grants]]) -> None:
        world, parts = self.world, self.world.parts
        clock = self.clock = self.process.clock = world.clock(name)
        self._holder = Holder(world, self.process, grantors)
        self.lease = parts.lease()
        self.hub = parts.hub(
            parts.grantor(world.terms, is_nested=True), clock, lambda: self.lease.until
        )
        store = UpstreamStore(self, self.lease, HeavyWork())  # type: ignore[arg-type]
        self.cache = parts.cache(store, capacity=3, unknown_capacity=2)
        self.session = parts.session(
            self._holder.open_stream,
            messages.Hello(holder_id=name.ljust(16, "-"), kind=messages.HOLDER_KIND_SIDECAR),
            self.lease,
            Following(parts.revisions(self.cache, self.hub), self.hub, name),
            clock,
            random_source=random.Random(f"{name} {world.random.random()}"),
        )
        self.source = parts.facts(self.cache, self.lease, clock, fresh_memory_per_question(store))
        self.presented = PresentedKeys(self.source, PresentedDigests())
        self.offer(_no_processes, clock, name, nothing)

    @property
    def grantor(self) -> Grants | None:
        """Who it has its leases from."""
        return self._holder.grantor

    def start(self) -> None:
        """Starts it."""
        self.process.start(self.session.run())

    # What `UpstreamStore` asks of `Upstream`.

    async def ask(self, rpc: Rpc[Any, Any], request: Message) -> Any:
        """See `Upstream`."""
        asks_for_key = rpc is rpcs.FETCH_FACTS
        return await self._holder.ask("fetch" if asks_for_key else "fetch_all_keyspaces", request)


class Sdk:
    """The cache inside an application: what it does not answer is asked of its grantor."""

    def __init__(self, world: World, name: str, grantors: Callable[[], Sequence[Grants]]) -> None:
        self.world = world
        self.process = world.loop.process(name)
        self.process.context.run(self._make, name, grantors)

    def _make(self, name: str, grantors: Callable[[], Sequence[Grants]]) -> None:
        world, parts = self.world, self.world.parts
        self.clock = self.process.clock = world.clock(name)
        self._holder = Holder(world, self.process, grantors)
        self.lease = parts.lease()
        self._checks = parts.local_checks(
            parts.memory(3), self.lease, self.clock.now, without_lease=_go_on
        )
        self.session = parts.session(
            self._holder.open_stream,
            messages.Hello(holder_id=name.ljust(16, "-"), kind=messages.HOLDER_KIND_SDK),
            self.lease,
            self._checks,
            self.clock,
            random_source=random.Random(f"{name} {world.random.random()}"),
        )

    @property
    def grantor(self) -> Grants | None:
        """Who it has its leases from."""
        return self._holder.grantor

    def start(self) -> None:
        """Starts it."""
        self.process.start(self.session.run())
        self.process.start(self._checks.keep_keyspaces(self._ask_for_keyspaces))

    async def check(self, text: str) -> bool:
        """Whether a key may."""
        answer = self._checks.check_scope(text, (SCOPE,), None, None, 0)
        if answer is not None:
            return answer.allowed
        fill = self._checks.begin_fill(text)
        if fill is not None:
            self.process.start(self._fill(fill, text))
        asked: bool = await self._holder.ask("check", text)
        return asked

    async def _fill(self, fill: Fill[str], text: str) -> None:
        try:
            response = await self._holder.ask("fetch", self._checks.fill_request(fill, text))
        except StoreUnavailable:
            self._checks.drop_fill(fill)
        else:
            self._checks.end_fill(fill, text, response)

    async def _ask_for_keyspaces(
        self, request: messages.FetchKeyspacesRequest
    ) -> messages.FetchKeyspacesResponse | None:
        try:
            response: messages.FetchKeyspacesResponse = await self._holder.ask(
                "fetch_all_keyspaces", request
            )
        except StoreUnavailable:
            return None
        return response


def _go_on() -> None:
    """The session runs in any case."""
