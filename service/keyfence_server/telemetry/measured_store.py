"""Measures a store, and reports its outages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter

from keyfence_server.application.latencies import Latencies
from keyfence_server.application.ports import (
    AuditEvent,
    LoadedKeys,
    Snapshot,
    Store,
    StoreUnavailable,
    Transaction,
    UseToAdd,
    Wanted,
    not_urgent,
)
from keyfence_server.domain.secrets import Digest
from keyfence_server.telemetry.store_outages import StoreOutages


@dataclass(eq=False, slots=True)
class StoreStats:
    """What the store was asked.

    Attributes:
        snapshots: how long snapshots were held, and how long it took to load keys.
        transactions: how long transactions took, the wait for their turn included.
        bookkeeping: how long it took to write down what is no mutation.
        outages: how often the store did not do what it was asked, and whether it does now.
        in_use: how many snapshots and transactions are open now.
    """

    snapshots: Latencies = field(default_factory=Latencies)
    transactions: Latencies = field(default_factory=Latencies)
    bookkeeping: Latencies = field(default_factory=Latencies)
    outages: StoreOutages = field(default_factory=StoreOutages)
    in_use: int = 0


@dataclass(eq=False)
class MeasuredStore:
    """A store that measures another one."""

    _store: Store
    _stats: StoreStats

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        async with self._measured(self._stats.snapshots), self._store.snapshot() as snapshot:
            yield snapshot

    async def load_keys(self, questions: Sequence[Sequence[Digest]]) -> LoadedKeys:
        async with self._measured(self._stats.snapshots):
            return await self._store.load_keys(questions)

    @asynccontextmanager
    async def transaction(
        self,
        wanted: Callable[[], Wanted] = Wanted,
        is_urgent: Callable[[], bool] = not_urgent,
    ) -> AsyncIterator[Transaction]:
        async with (
            self._measured(self._stats.transactions),
            self._store.transaction(wanted, is_urgent) as transaction,
        ):
            yield transaction

    async def add_uses(self, uses: Sequence[UseToAdd]) -> None:
        async with self._measured(self._stats.bookkeeping):
            await self._store.add_uses(uses)

    async def append_events(self, events: Sequence[AuditEvent]) -> None:
        async with self._measured(self._stats.bookkeeping):
            await self._store.append_events(events)

    async def ping(self) -> None:
        await self._store.ping()

    async def close(self) -> None:
        await self._store.close()

    @asynccontextmanager
    async def _measured(self, latencies: Latencies) -> AsyncIterator[None]:
        started = perf_counter()
        self._stats.in_use += 1
        try:
            yield
        except StoreUnavailable as error:
            self._stats.outages.failed(error)
            raise
        finally:
            self._stats.in_use -= 1
            latencies.add(perf_counter() - started)
