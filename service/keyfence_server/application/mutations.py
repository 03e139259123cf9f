"""The one gate for everything that changes anything.

A mutation is a transaction, and then a fence: it is acknowledged when it is durable
and when no cache anywhere answers from before it. So is one that finds nothing left to
do, since what it found may have been done a moment ago. Nothing else in Keyfence opens
a transaction, so nothing can change a key and forget to say so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from keyfence_server.application.callers import Caller
from keyfence_server.application.ports import (
    AuditEvent,
    Change,
    Clock,
    Fence,
    Store,
    Transaction,
)

T = TypeVar("T")

_committed: Final[ContextVar[bool]] = ContextVar("committed", default=False)


def has_committed() -> bool:
    """Whether the call under way has changed anything. Each runs in a context of its own."""
    return _committed.get()


@dataclass(frozen=True, slots=True)
class Effect(Generic[T]):
    """What a use case did in its transaction, and what is to be recorded of it.

    Attributes:
        value: what the use case answers.
        changes: what is no longer as it was. Empty: nothing was changed, and nothing
            is committed.
        event: for the audit log; needed where there are changes.
    """

    value: T
    changes: tuple[Change, ...] = ()
    event: AuditEvent | None = None


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """A mutation that holds everywhere.

    Attributes:
        value: what the use case answers.
        revision: of the mutation; of the store as it was found, if nothing was changed.
        is_committed: whether anything was changed.
    """

    value: T
    revision: int
    is_committed: bool = False


class Mutations:
    """Carries out mutations: transaction, commit, fence."""

    def __init__(self, store: Store, fence: Fence, clock: Clock) -> None:
        self._store = store
        self._fence = fence
        self._clock = clock
        self._under_way: set[asyncio.Task[object]] = set()

    async def run(
        self,
        caller: Caller,
        work: Callable[[Transaction, Caller], Awaitable[Effect[T]]],
    ) -> Done[T]:
        """Runs a use case as a caller whose credential is read anew from the store.

        All mutations are serialised by the transaction's lock on the head, so a maker
        that is being revoked either is revoked first, and makes nothing, or its work
        is finished before the revocation begins.

        Raises:
            DomainError: from the use case, or because the caller does not pass any
                more; nothing was changed.
            StoreUnavailable: nothing was changed, or it is not known whether it was.
        """

        async def as_reread(transaction: Transaction) -> Effect[T]:
            return await work(transaction, await caller.reread(transaction, self._clock))

        done = await self.run_as_server(as_reread)
        if done.is_committed:
            _committed.set(True)
        return done

    async def run_as_server(self, work: Callable[[Transaction], Awaitable[Effect[T]]]) -> Done[T]:
        """Runs what the server does of itself, at its first start. Raises as `run`."""
        # The task is not the caller's to cancel: a commit whose fence is never waited
        # for would leave caches answering from before it.
        task = asyncio.create_task(self._carry_out(work))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _carry_out(self, work: Callable[[Transaction], Awaitable[Effect[T]]]) -> Done[T]:
        committed: int | None = None
        try:
            async with self._store.transaction() as transaction:
                effect = await work(transaction)
                found_at = transaction.revision - 1
                if effect.changes:
                    committed = await self._commit(transaction, effect)
        finally:
            # Also if the store failed behind the commit: what is durable must hold.
            if committed is not None:
                await self._fence.wait(committed, effect.changes)
        if committed is None:
            await self._fence.settle(found_at)
        return Done(effect.value, committed or found_at, is_committed=committed is not None)

    async def _commit(self, transaction: Transaction, effect: Effect[T]) -> int:
        if effect.event is None:
            raise TypeError("a mutation without an audit event")
        try:
            return await transaction.commit(effect.changes, effect.event)
        except BaseException:
            # Whatever went wrong, the commit may have taken effect.
            await self._fence.forget_everything()
            raise

    async def finish(self) -> None:
        """Waits for the mutations that are under way. Called when the server drains."""
        while self._under_way:
            await asyncio.wait(self._under_way)
