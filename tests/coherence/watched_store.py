"""The real store behind a port of its own, at which a test can count, hold up and lose things."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from typing import Any, Final, cast

from keyfence_server.application.ports import (
    AuditEvent,
    FoundKey,
    KeyFilter,
    LoadedKeys,
    Snapshot,
    Store,
    StoreUnavailable,
    Transaction,
    UseToAdd,
    Wanted,
    not_urgent,
)
from keyfence_server.domain.keys import Key
from keyfence_server.domain.secrets import Digest

_PATIENCE_SECONDS: Final = 30


class Gate:
    """A place where a task waits until the test lets it go on."""

    def __init__(self) -> None:
        self._arrived = asyncio.Event()
        self._open = asyncio.Event()

    async def pass_through(self) -> None:
        """Arrives, and waits to be let through."""
        self._arrived.set()
        await self._open.wait()

    async def arrival(self) -> None:
        """Waits until a task is at the gate."""
        await self._arrived.wait()

    def open(self) -> None:
        """Lets every task through."""
        self._open.set()


class Loss(Enum):
    """How the next commit goes wrong."""

    ANSWER = "it takes effect, and its answer is lost"
    COMMIT = "it takes no effect"
    CONNECTION = "it takes effect and is answered, and then the connection breaks"


class WatchedStore:
    """Keeps the `Store` port by passing everything on to a real store.

    Attributes:
        is_away: whether it cannot be reached, to be set.
        snapshots: how many were asked for.
        transactions: how many were asked for.
        ended: how many of these have let go of the store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._gates: deque[Gate] = deque()
        self._lagging: deque[Snapshot] = deque()
        self._failures: deque[BaseException] = deque()
        self._losses: deque[tuple[Loss, BaseException]] = deque()
        self.is_away = False
        self.snapshots = 0
        self.transactions = 0
        self.ended = 0

    def hold_next_snapshot(self) -> Gate:
        """The next snapshot is opened, and then held up before anything is read from it. Keys that
        are loaded are held up when they are read."""
        gate = Gate()
        self._gates.append(gate)
        return gate

    def fail_next_snapshot(self, error: BaseException) -> None:
        """The next snapshot cannot be opened."""
        self._failures.append(error)

    def lose_next_commit(self, loss: Loss, error: BaseException | None = None) -> None:
        """The next commit goes wrong."""
        self._losses.append((loss, error or StoreUnavailable("the connection is gone")))

    @asynccontextmanager
    async def lagging(self, times: int = 1) -> AsyncIterator[None]:
        """The next so many snapshots show the store as it is now, like those of a replica."""
        async with self._store.snapshot() as snapshot:
            self._lagging.extend([snapshot] * times)
            yield

    def _begin_reading(self) -> None:
        self.snapshots += 1
        if self.is_away:
            raise StoreUnavailable("the store is away")
        if self._failures:
            raise self._failures.popleft()

    async def load_keys(self, questions: Sequence[Sequence[Digest]]) -> LoadedKeys:
        """See the port."""
        self._begin_reading()
        if self._lagging:
            return await _loaded_from(self._lagging.popleft(), questions)
        loaded = await self._store.load_keys(questions)
        if self._gates:
            await self._gates.popleft().pass_through()
        return loaded

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """See the port."""
        self._begin_reading()
        if self._lagging:
            yield self._lagging.popleft()
            return
        async with self._store.snapshot() as snapshot:
            if self._gates:
                await self._gates.popleft().pass_through()
            yield snapshot

    @asynccontextmanager
    async def transaction(
        self,
        wanted: Callable[[], Wanted] = Wanted,
        is_urgent: Callable[[], bool] = not_urgent,
    ) -> AsyncIterator[Transaction]:
        """See the port."""
        self.transactions += 1
        async with self._store.transaction(wanted, is_urgent) as transaction:
            watched = _WatchedTransaction(transaction, self._losses)
            yield cast("Transaction", watched)
        self.ended += 1
        if watched.breaks_with is not None:
            raise watched.breaks_with

    async def add_uses(self, uses: Sequence[UseToAdd]) -> None:
        """See the port."""
        await self._store.add_uses(uses)

    async def append_events(self, events: Sequence[AuditEvent]) -> None:
        """See the port."""
        await self._store.append_events(events)

    async def ping(self) -> None:
        """See the port."""
        await self._store.ping()

    async def close(self) -> None:
        """See the port."""
        await self._store.close()


async def _loaded_from(snapshot: Snapshot, questions: Sequence[Sequence[Digest]]) -> LoadedKeys:
    """What `load_keys` would have found at the moment of the snapshot. No owner is registered."""
    keys: dict[Digest, Key] = {}
    for keyspace in await snapshot.list_keyspaces(after=None, limit=100):
        every = KeyFilter(keyspace.name)
        found = await snapshot.list_keys(every, after=None, limit=1000)
        keys |= {key.digest: key for key in found}
    answers: list[FoundKey | Exception | None] = []
    for question in questions:
        key = next((keys[digest] for digest in question if digest in keys), None)
        lineage = await snapshot.find_lineage(key.key_id) if key is not None else None
        answers.append(FoundKey(lineage, None) if lineage is not None else None)
    return LoadedKeys(snapshot.revision, answers)


class _WatchedTransaction:
    """Passes everything on, save for a commit that is to go wrong."""

    def __init__(self, transaction: Transaction, losses: deque[tuple[Loss, BaseException]]) -> None:
        self._transaction = transaction
        self._losses = losses
        self.breaks_with: BaseException | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transaction, name)

    async def commit(self) -> int:
        """See the port."""
        if not self._losses:
            return await self._transaction.commit()
        loss, error = self._losses.popleft()
        if loss is Loss.COMMIT:
            raise error
        revision = await self._transaction.commit()
        if loss is Loss.ANSWER:
            raise error
        self.breaks_with = error
        return revision


async def until(happened: Callable[[], bool]) -> None:
    """Lets the loop turn until something has happened. The store has a thread of its own, which
    on a busy machine may take many turns to come to it."""
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while not happened():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0)
