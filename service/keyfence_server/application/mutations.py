"""The one gate for everything that changes anything.

A mutation is a transaction, and then a fence: it is acknowledged when it is durable
and when no cache anywhere answers from before it. So is one that finds nothing left to
do, since what it found may have been done a moment ago. Nothing else in Keyfence opens
a transaction, so nothing can change a key and forget to say so.

Transactions come one after the other, because each locks the head. They wait for their turn
here, as `turns` says, and a caller that goes away leaves the line. One credential has a
limited number of places, and an account a quota of changes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Final, Generic, TypeVar

import structlog

from keyfence_server.application.callers import Caller
from keyfence_server.application.ports import (
    AuditEvent,
    Change,
    Clock,
    Fence,
    Store,
    StoreUnavailable,
    Transaction,
)
from keyfence_server.application.quotas import ChangeQuotas
from keyfence_server.application.turns import Place, Turns
from keyfence_server.domain.errors import DomainError
from keyfence_server.domain.keyspaces import SYSTEM

T = TypeVar("T")

MAX_MUTATIONS_PER_CREDENTIAL: Final = 16
"""Mutations of one credential that are under way at the same time."""

_TURN_SECONDS: Final = 5.0

_log = structlog.get_logger("keyfence.mutations")


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


class ClockIsWrong(DomainError):
    """This server's clock is wrong, so what it would make would expire at the wrong time."""

    # For a client it is as if this server were away: another one may have the right time.
    reason = "STORE_UNAVAILABLE"


class TooManyMutations(DomainError):
    """One credential has as many mutations under way as it may have."""

    reason = "LIMIT_REACHED"


@dataclass(slots=True)
class _Progress:
    """A mutation that waits for its turn, and how far it has come.

    Attributes:
        place: whose turn it takes.
        is_restrictive: whether it can only take something away.
        has_begun: whether its transaction has begun. Until then nothing is lost if it ends.
    """

    place: Place
    is_restrictive: bool
    has_begun: bool = False


class Mutations:
    """Carries out mutations: transaction, commit, fence.

    Args:
        clock_problem: what is wrong with the clock; None if nothing. While it is wrong, only
            restrictive changes are made.
    """

    def __init__(
        self,
        store: Store,
        fence: Fence,
        clock: Clock,
        quotas: ChangeQuotas,
        clock_problem: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._clock_problem = clock_problem
        self._store = store
        self._fence = fence
        self._clock = clock
        self._quotas = quotas
        self._turns = Turns()
        self._waiting = 0
        self._under_way: set[asyncio.Task[object]] = set()
        self._by_credential: Counter[str] = Counter()

    async def run(
        self,
        caller: Caller,
        work: Callable[[Transaction, Caller], Awaitable[Effect[T]]],
        *,
        restrictive: bool = False,
    ) -> Done[T]:
        """Runs a use case as a caller whose credential is read anew from the store.

        Args:
            restrictive: whether it can only take something away, as a revocation does. Such a
                change need not wait for others.

        All mutations are serialised by the transaction's lock on the head, so a maker
        that is being revoked either is revoked first, and makes nothing, or its work
        is finished before the revocation begins.

        Raises:
            ClockIsWrong: this server's clock is wrong; nothing was changed.
            TooManyMutations: the credential has too many under way; nothing was changed.
            QuotaReached: the account makes too many changes; nothing was changed.
            DomainError: from the use case, or because the caller does not pass any
                more; nothing was changed.
            StoreUnavailable: nothing was changed, or it is not known whether it was.
        """
        started = perf_counter()

        async def as_reread(transaction: Transaction) -> Effect[T]:
            return await work(transaction, await caller.reread(transaction, self._clock))

        if not restrictive and (problem := self._clock_problem()) is not None:
            raise ClockIsWrong(problem)
        await self._quotas.count(caller, restrictive=restrictive)
        # Callers without a credential share the places of their address.
        with self._place(caller.credential_id or f"address {caller.address}"):
            done = await self._run(as_reread, _place_of(caller), restrictive=restrictive)
        if done.is_committed:
            _log.info(
                "mutation_done",
                method=caller.call.method,
                request_id=caller.request_id,
                caller_key_id=caller.credential_id,
                seconds=round(perf_counter() - started, 6),
            )
        return done

    async def run_as_server(self, work: Callable[[Transaction], Awaitable[Effect[T]]]) -> Done[T]:
        """Runs what the server does of itself, at its first start. Raises as `run`."""
        return await self._run(work, ("", ""), restrictive=False)

    async def _run(
        self,
        work: Callable[[Transaction], Awaitable[Effect[T]]],
        place: Place,
        *,
        restrictive: bool,
    ) -> Done[T]:
        progress = _Progress(place, restrictive)
        # Once its transaction has begun, the task is not the caller's to cancel: a commit whose
        # fence is never waited for would leave caches answering from before it.
        task = asyncio.create_task(self._carry_out(work, progress))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not progress.has_begun:
                task.cancel()
            raise

    @contextmanager
    def _place(self, credential: str) -> Iterator[None]:
        if self._by_credential[credential] >= MAX_MUTATIONS_PER_CREDENTIAL:
            raise TooManyMutations(
                f"this credential has {MAX_MUTATIONS_PER_CREDENTIAL} mutations under way already; "
                "wait for one of them to end, and try again",
                limit="mutations_per_credential",
            )
        self._by_credential[credential] += 1
        try:
            yield
        finally:
            self._by_credential[credential] -= 1
            if not self._by_credential[credential]:
                del self._by_credential[credential]

    async def _carry_out(
        self, work: Callable[[Transaction], Awaitable[Effect[T]]], progress: _Progress
    ) -> Done[T]:
        committed: int | None = None
        try:
            await self._wait_for_turn(progress)
            try:
                progress.has_begun = True
                async with self._store.transaction() as transaction:
                    effect = await work(transaction)
                    found_at = transaction.revision - 1
                    if effect.changes:
                        committed = await self._commit(transaction, effect)
            finally:
                self._turns.pass_on()
        finally:
            # Also if the store failed behind the commit: what is durable must hold.
            if committed is not None:
                await self._fence.wait(committed, effect.changes)
        if committed is None:
            await self._fence.settle(found_at)
        return Done(effect.value, committed or found_at, is_committed=committed is not None)

    async def _wait_for_turn(self, progress: _Progress) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout(_TURN_SECONDS):
                await self._turns.take(progress.place, restrictive=progress.is_restrictive)
        except TimeoutError:
            raise StoreUnavailable(
                "other mutations have taken too long; nothing was changed, try again"
            ) from None
        finally:
            self._waiting -= 1

    async def _commit(self, transaction: Transaction, effect: Effect[T]) -> int:
        if effect.event is None:
            raise TypeError("a mutation without an audit event")
        try:
            return await transaction.commit(effect.changes, effect.event)
        except BaseException:
            # Whatever went wrong, the commit may have taken effect.
            await self._fence.forget_everything()
            raise

    @property
    def under_way(self) -> int:
        """How many mutations wait, have the store, or wait for their fence now."""
        return len(self._under_way)

    @property
    def waiting(self) -> int:
        """How many mutations wait for their turn now."""
        return self._waiting

    async def finish(self) -> None:
        """Waits for the mutations that are under way. Called when the server drains."""
        while self._under_way:
            await asyncio.wait(self._under_way)


def _place_of(caller: Caller) -> Place:
    """Whose turn a mutation takes. All keys and sessions of an account are one caller, and
    all callers of an address without a credential."""
    if caller.own is not None:
        return caller.own
    if caller.credential_id is None:
        return "", caller.address
    return SYSTEM, caller.credential_id
