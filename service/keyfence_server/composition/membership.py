"""Wires this process as a holder and as a grantor.

The only process on an embedded database needs no lease. One of several processes, on
PostgreSQL or as a worker on a SQLite file, is a holder with the store as its
grantor. In both cases the process grants leases to the sidecars and SDKs downstream of it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from keyfence.holder.clock import SystemBootClock
from keyfence.holder.lease import HolderLease
from keyfence.holder.session import HolderSession, display_name_of_process
from keyfence.v1 import replication_service_pb2 as messages
from keyfence_server.adapters.sql.postgresql_feed import PostgresqlFeed
from keyfence_server.adapters.sql.sqlite_feed import SqliteFeed
from keyfence_server.adapters.upstream.channels import Upstream
from keyfence_server.adapters.upstream.following import Following
from keyfence_server.adapters.upstream.store import UpstreamStore
from keyfence_server.application.heavy_work import HeavyWork
from keyfence_server.application.ports import FactSource, Fence, Store
from keyfence_server.coherence.applied_revisions import AppliedRevisions
from keyfence_server.coherence.downstream import DownstreamHub
from keyfence_server.coherence.fact_cache import FactCache
from keyfence_server.coherence.grantor import Grantor
from keyfence_server.coherence.leased_facts import (
    AwaitedLease,
    LeasedFacts,
    WithoutLease,
    fresh_memory_per_question,
)
from keyfence_server.coherence.ports import Register
from keyfence_server.coherence.replica import ListProcesses, Replica, SeenProcess
from keyfence_server.coherence.shared_fence import SharedFence
from keyfence_server.coherence.sole_fence import SoleFence
from keyfence_server.coherence.stale_if_error import StaleIfError
from keyfence_server.coherence.succession import Succession
from keyfence_server.coherence.terms import LeaseTerms
from keyfence_server.composition.background import run_in_background
from keyfence_server.config import Settings
from keyfence_server.telemetry.measured_fence import LeaseFigures
from keyfence_server.telemetry.store_outages import StoreOutages

FOREVER = float("inf")
_FIRST_LEASE_SECONDS: Final = 3.0
_LOOK_SECONDS: Final = 0.02


async def _nothing() -> None:
    """This process is a holder: it is in the register, and the fence waits for it."""


async def _no_processes() -> list[SeenProcess]:
    """There can be no others on the store, or the servers upstream list themselves."""
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """What this process may do from memory.

    Attributes:
        process_id: drawn at random when the process starts.
        source: facts about keys, from memory where that is allowed.
        stale_if_error: the same, and also for a limited time after the lease has expired. None
            unless an operator has configured it. Only checks use it.
        cache: the memory of facts, for the metrics.
        hub: the holders downstream of this process.
        start: starts to follow the store. The process must not answer before it returns.
        before_granting: must complete before a lease is granted to any holder downstream.
        is_live: whether this process may answer from memory now.
        lease: the figures of its lease.
        list_processes: the server processes on the store; none where this process is alone, or a
            sidecar. Raises `StoreUnavailable`.
    """

    process_id: str
    source: FactSource
    cache: FactCache
    hub: DownstreamHub
    start: Callable[[AsyncExitStack], Awaitable[None]]
    is_live: Callable[[], bool]
    lease: Callable[[], LeaseFigures]
    before_granting: Callable[[], Awaitable[None]] = _nothing
    list_processes: ListProcesses = _no_processes
    stale_if_error: StaleIfError | None = None

    @property
    def source_of_checks(self) -> FactSource:
        """What checks are answered from."""
        return self.stale_if_error or self.source

    def stale_answers(self) -> int:
        """How many questions were answered without a lease."""
        return self.stale_if_error.answers if self.stale_if_error is not None else 0

    def may_be_stale(self) -> bool:
        """Whether checks are answered without a lease at this moment, if need be."""
        return self.stale_if_error is not None and self.stale_if_error.is_allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityMembership(Membership):
    """That of a process on the store, which also mutates.

    Attributes:
        fence: knows when a mutation holds everywhere.
    """

    fence: Fence


def alone(
    cache: FactCache, store: Store, register: Register, terms: LeaseTerms
) -> AuthorityMembership:
    """The membership of a process that has the database to itself."""
    clock = SystemBootClock()
    hub = DownstreamHub(Grantor(terms), clock, lambda: FOREVER)
    revisions = AppliedRevisions(cache, hub)
    # Holders downstream must not take this process for the one before it.
    process_id = _new_process_id()
    succession = Succession(
        process_id, display_name_of_process(), register=register, hub=hub, terms=terms, clock=clock
    )

    async def start(resources: AsyncExitStack) -> None:
        await succession.start()
        resources.push_async_callback(succession.stop)
        async with store.snapshot() as snapshot:
            revisions.restart(snapshot.revision, process_id)

    return AuthorityMembership(
        process_id=process_id,
        source=cache,
        cache=cache,
        fence=SoleFence(revisions, hub, succession.outlast),
        hub=hub,
        start=start,
        before_granting=succession.register,
        is_live=lambda: True,
        lease=lambda: LeaseFigures(left=FOREVER, age=0.0, renewals=0, failed_renewals=0),
    )


def among_others(
    settings: Settings, cache: FactCache, store: Store, register: Register, outages: StoreOutages
) -> AuthorityMembership:
    """The membership of one of several processes on a store."""
    terms = settings.lease_terms()
    clock = SystemBootClock()
    lease = HolderLease()
    hub = DownstreamHub(Grantor(terms), clock, lambda: lease.until)
    process_id = _new_process_id()
    url = settings.store_url()
    replica = Replica(
        process_id,
        display_name_of_process(),
        store=store,
        register=register,
        feed=SqliteFeed(url) if settings.is_embedded() else PostgresqlFeed(url),
        revisions=AppliedRevisions(cache, hub),
        hub=hub,
        lease=lease,
        terms=terms,
        clock=clock,
        on_unavailable=outages.failed,
    )

    async def start(resources: AsyncExitStack) -> None:
        await replica.start()
        resources.push_async_callback(replica.stop)

    without_lease: WithoutLease = AwaitedLease(
        cache, lease, clock, replica.lease_moved, terms.length
    )
    if settings.is_embedded():
        # An open file cannot be replaced, so a read of it is current, even while a long
        # transaction keeps all workers from renewing.
        without_lease = fresh_memory_per_question(store)
    return AuthorityMembership(
        process_id=process_id,
        source=LeasedFacts(cache, lease, clock, without_lease),
        stale_if_error=_stale_if_error(settings, cache, lease, clock, without_lease),
        cache=cache,
        fence=SharedFence(replica, register, hub, terms, clock),
        hub=hub,
        list_processes=replica.list_processes,
        start=start,
        is_live=lambda: lease.is_live(clock.now()),
        lease=lambda: _figures(lease, clock, replica.failed_renewals, replica.struck_off),
    )


def downstream_of(
    settings: Settings, upstream: Upstream, *, on_broken: Callable[[str], None]
) -> Membership:
    """The membership of a sidecar, whose grantor is a server upstream."""
    clock = SystemBootClock()
    lease = HolderLease()
    hub = DownstreamHub(Grantor(settings.lease_terms(), is_nested=True), clock, lambda: lease.until)
    store = UpstreamStore(upstream, lease, HeavyWork())
    cache = FactCache(
        store, capacity=settings.cache_keys, unknown_capacity=settings.cache_unknown_keys
    )
    process_id = f"sdc_{secrets.token_hex(16)}"
    is_broken: list[str] = []

    def note_broken(why: str) -> None:
        if not is_broken:
            is_broken.append(why)
        on_broken(why)

    session = HolderSession(
        upstream.open_stream,
        messages.Hello(
            holder_id=process_id,
            kind=messages.HOLDER_KIND_SIDECAR,
            display_name=display_name_of_process(),
        ),
        lease,
        Following(AppliedRevisions(cache, hub), hub, process_id),
        clock,
        on_broken=note_broken,
    )

    async def start(resources: AsyncExitStack) -> None:
        run_in_background(session.run(), resources)
        # So that the process can say at its start whether it serves, and if not, why.
        patience = clock.now() + _FIRST_LEASE_SECONDS
        while not (lease.is_live(clock.now()) or is_broken or clock.now() > patience):  # noqa: ASYNC110 - no event
            await asyncio.sleep(_LOOK_SECONDS)

    without_lease = fresh_memory_per_question(store)
    return Membership(
        process_id=process_id,
        source=LeasedFacts(cache, lease, clock, without_lease),
        stale_if_error=_stale_if_error(settings, cache, lease, clock, without_lease),
        cache=cache,
        hub=hub,
        start=start,
        is_live=lambda: lease.is_live(clock.now()),
        lease=lambda: _figures(lease, clock, lease.failed_renewals),
    )


def _figures(
    lease: HolderLease, clock: SystemBootClock, failed_renewals: int, struck_off: int = 0
) -> LeaseFigures:
    now = clock.now()
    return LeaseFigures(
        left=max(0.0, lease.until - now),
        age=now - lease.renewed_at,
        renewals=lease.renewals,
        failed_renewals=failed_renewals,
        struck_off=struck_off,
    )


def _stale_if_error(
    settings: Settings,
    cache: FactCache,
    lease: HolderLease,
    clock: SystemBootClock,
    without_lease: WithoutLease,
) -> StaleIfError | None:
    seconds = settings.stale_if_error_seconds()
    return StaleIfError(cache, lease, clock, without_lease, seconds) if seconds else None


def _new_process_id() -> str:
    return f"srv_{secrets.token_hex(12)}"
