"""The one way to change anything.

A mutation is a transaction, and then a fence: it is acknowledged when it is durable
and when no cache anywhere answers from before it. So is one that finds nothing left to
do, since what it found may have been done a moment ago. Only `recover_operator`, which runs
without a server or beside one, opens a transaction of its own; every other change goes through
here, so no use case can change a key and forget to report it.

Mutations come one after the other, because their transaction locks the head. Those that wait
while one is under way follow in the same transaction, as a group: each has a revision, an audit
event and an outcome of its own, and all share the commit and the fence. One that fails is undone
and leaves the others whole. If the group's commit fails, all of them fail, and so does whatever
was answered by what they had written.

A fence costs each holder a message and its answer, however many mutations it is for. So the next
group waits for the fence of the one before, and more mutations join it meanwhile. It waits for a
short time only, because a holder that is silent delays a fence by seconds.

Mutations wait in the order that `turns` says, and a caller that goes away leaves the line. One
credential has a limited number of places, and an account a quota of changes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import reduce
from itertools import count, islice
from operator import or_
from time import perf_counter
from typing import Any, Final, Generic, TypeVar

import structlog

from keyfence_server.application.callers import Caller
from keyfence_server.application.ports import (
    NOTHING_WANTED,
    AuditEvent,
    Change,
    Clock,
    Fence,
    Revision,
    Store,
    Transaction,
    Wanted,
)
from keyfence_server.application.quotas import ChangeQuotas
from keyfence_server.application.turns import Place, Queue
from keyfence_server.domain.errors import DomainError, Overloaded
from keyfence_server.domain.keyspaces import SYSTEM

T = TypeVar("T")

MAX_MUTATIONS_PER_CREDENTIAL: Final = 16
"""Mutations of one credential that are under way at the same time."""

MOST_IN_A_GROUP: Final = 64
_GROUP_SECONDS: Final = 0.05
"""How long a group takes further mutations; those in it wait for its commit."""

FENCE_SECONDS: Final = 0.1
"""The longest time that the next group waits for a fence. A restrictive change does not wait for a
fence of other changes."""

_TURN_SECONDS: Final = 5.0

_log = structlog.get_logger("keyfence.mutations")


@dataclass(frozen=True, slots=True)
class Effect(Generic[T]):
    """What a use case did in its transaction, and what is to be recorded of it.

    Attributes:
        value: what the use case answers.
        changes: what is no longer as it was. Empty: nothing was changed, and nothing is committed.
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


class NotNow(DomainError):
    """This server's clock is wrong, so what it would make would expire at the wrong time. Or other
    mutations have kept the store for so long that this one did not begin."""

    # For a client it is as if this server were away: it may try again, and at another one.
    reason = "STORE_UNAVAILABLE"


def _future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True, eq=False, kw_only=True)
class _Mutation(Generic[T]):
    """A mutation, from when it waits until its outcome is known.

    Attributes:
        work: what it does in the transaction.
        place: whose turn it takes.
        wanted: what it will probably read.
        is_restrictive: whether it can only take something away.
        is_ungrouped: whether no other mutation may share its transaction, because it takes long.
        context: the caller's.
        begins: done when it has begun, and cancelled when its caller has left the line.
        outcome: what its caller is told.
    """

    work: Callable[[Transaction], Awaitable[Effect[T]]]
    place: Place = ("", "")
    wanted: Wanted = NOTHING_WANTED
    is_restrictive: bool = False
    is_ungrouped: bool = False
    context: Context = field(default_factory=copy_context)
    begins: asyncio.Future[None] = field(default_factory=_future)
    outcome: asyncio.Future[Done[T]] = field(default_factory=_future)

    def done(self) -> bool:
        """Whether it does not wait in the line any more."""
        return self.begins.done()

    def fail(self, error: BaseException) -> None:
        """Tells the caller why it has no effect, or why its outcome is unknown."""
        self.outcome.set_exception(error)
        # Retrieved, so that asyncio does not report it as lost: the caller may have gone.
        self.outcome.exception()


@dataclass(slots=True)
class _Group:
    """The mutations that share a transaction.

    Attributes:
        ends: mutations, with what their callers are told when the fence has ended; with None, the
            one that is in the transaction now.
        found_at: the revision of the store as it was found.
        revisions: what the commit makes durable.
        is_restrictive: whether a restrictive change is in it.
        is_committed: whether the revisions are durable.
        error: why the transaction failed.
    """

    ends: dict[_Mutation[Any], Done[Any] | Exception | None]
    found_at: int = 0
    revisions: list[Revision] = field(default_factory=list)
    is_restrictive: bool = False
    is_committed: bool = False
    error: BaseException | None = None

    def tell(self) -> None:
        """Tells each caller the outcome."""
        for mutation, end in self.ends.items():
            if isinstance(end, Done):
                mutation.outcome.set_result(end)
            elif end is not None:
                mutation.fail(end)

    def fail(self, error: BaseException) -> None:
        """Tells every caller that the transaction failed, or that this is not known."""
        for mutation in self.ends:
            mutation.fail(error)


@dataclass(eq=False)
class Mutations:
    """Carries out mutations: transaction, commit, fence.

    Args:
        clock_problem: what is wrong with the clock; None if nothing. While it is wrong, only
            restrictive changes are made.
    """

    _store: Store
    _fence: Fence
    _clock: Clock
    _quotas: ChangeQuotas
    _clock_problem: Callable[[], str | None] = lambda: None
    _line: Queue[_Mutation[Any]] = field(init=False, default_factory=Queue)
    _is_serving: bool = field(init=False, default=False)
    # Set while the next group waits for a fence: done when a restrictive change arrives.
    _restrictive_arrived: asyncio.Future[None] | None = field(init=False, default=None)
    _unfinished: int = field(init=False, default=0)
    _under_way: set[asyncio.Task[object]] = field(init=False, default_factory=set)
    _by_credential: Counter[str] = field(init=False, default_factory=Counter)

    async def run(
        self,
        caller: Caller,
        work: Callable[[Transaction, Caller], Awaitable[Effect[T]]],
        *,
        wanted: Wanted = NOTHING_WANTED,
        restrictive: bool = False,
        ungrouped: bool = False,
    ) -> Done[T]:
        """Runs a use case as a caller whose credential is read anew from the store.

        Args:
            wanted: what it will probably read, besides the caller's credential.
            restrictive: whether it can only take something away, as a revocation does. Such a
                change need not wait for others.
            ungrouped: whether it takes so long that no other mutation is to wait for its commit.

        All mutations are serialised by the transaction's lock on the head, so a maker
        that is being revoked either is revoked first, and makes nothing, or its work
        is finished before the revocation begins.

        Raises:
            NotNow: this server's clock is wrong, or other mutations kept the store for too long;
                nothing was changed.
            Overloaded: the credential has too many under way; nothing was changed.
            QuotaReached: the account makes too many changes; nothing was changed.
            DomainError: from the use case, or because the caller does not pass any
                more; nothing was changed.
            StoreUnavailable: nothing was changed, or it is not known whether it was.
        """
        started = perf_counter()

        async def as_reread(transaction: Transaction) -> Effect[T]:
            return await work(transaction, await caller.reread(transaction, self._clock))

        if not restrictive and (problem := self._clock_problem()) is not None:
            raise NotNow(problem)
        await self._quotas.count(caller, restrictive=restrictive)
        # Callers without a credential share the places of their address.
        with self._counted(caller.credential_id or f"address {caller.call.address}"):
            mutation = _Mutation(
                work=as_reread,
                place=_place_of(caller),
                wanted=wanted | caller.wanted,
                is_restrictive=restrictive,
                is_ungrouped=ungrouped,
            )
            done = await self._run(mutation)
        if done.is_committed:
            _log.info(
                "mutation_done",
                method=caller.call.method,
                request_id=caller.call.request_id,
                caller_key_id=caller.credential_id,
                seconds=round(perf_counter() - started, 6),
            )
        return done

    async def run_as_server(self, work: Callable[[Transaction], Awaitable[Effect[T]]]) -> Done[T]:
        """Runs what the server does of itself, at its first start. Raises as `run`."""
        return await self._run(_Mutation(work=work))

    async def _run(self, mutation: _Mutation[T]) -> Done[T]:
        self._unfinished += 1
        mutation.outcome.add_done_callback(self._note_end)
        self._line.add(mutation.place, mutation, restrictive=mutation.is_restrictive)
        arrived = self._restrictive_arrived
        if mutation.is_restrictive and arrived is not None and not arrived.done():
            arrived.set_result(None)
        if not self._is_serving:
            self._is_serving = True
            self._start(self._serve(self._next()))
        try:
            async with asyncio.timeout(_TURN_SECONDS):
                await mutation.begins
        except TimeoutError:
            # It may have begun at the last moment.
            if mutation.begins.cancelled():
                raise NotNow(
                    "other mutations have taken too long; nothing was changed, try again"
                ) from None
        finally:
            if mutation.begins.cancelled():
                mutation.outcome.cancel()
        # From here on it is not the caller's to cancel: a commit whose fence is never waited for
        # would leave caches answering from before it.
        return await asyncio.shield(mutation.outcome)

    def _note_end(self, _: asyncio.Future[Any]) -> None:
        self._unfinished -= 1

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    @contextmanager
    def _counted(self, credential: str) -> Iterator[None]:
        if self._by_credential[credential] >= MAX_MUTATIONS_PER_CREDENTIAL:
            raise Overloaded(
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

    def _next(self) -> _Mutation[Any] | None:
        """Lets the next mutation of the line begin."""
        mutation = self._line.take()
        if mutation is not None:
            mutation.begins.set_result(None)
        return mutation

    async def _serve(self, first: _Mutation[Any] | None) -> None:
        """Carries out a mutation and whatever waits, group by group."""
        try:
            while first is not None:
                group = _Group({first: None})
                try:
                    await self._carry_out(group, first)
                except Exception as error:  # noqa: BLE001 - each caller is told
                    group.error = error
                told = self._start(self._wait_and_tell(group))
                if group.is_committed:
                    await self._wait_for_fence(told, is_restrictive=group.is_restrictive)
                first = self._next()
        finally:
            self._is_serving = False

    async def _wait_for_fence(self, told: asyncio.Task[None], *, is_restrictive: bool) -> None:
        """Waits for the fence of a group, while mutations gather for the next one."""
        ends: list[asyncio.Future[None]] = [told]
        if not is_restrictive:
            self._restrictive_arrived = _future()
            ends.append(self._restrictive_arrived)
        await asyncio.wait(ends, timeout=FENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        self._restrictive_arrived = None

    async def _carry_out(self, group: _Group, first: _Mutation[Any]) -> None:
        """Carries out a mutation and those that wait behind it, up to their commit."""

        def is_urgent() -> bool:
            return first.is_restrictive or self._line.has_restrictive

        async with self._store.transaction(
            lambda: self._wanted_by(first), is_urgent
        ) as transaction:
            group.found_at = transaction.revision - 1
            await self._run_group(group, transaction, first)
            if group.revisions:
                await self._commit(transaction)
                group.is_committed = True

    def _wanted_by(self, first: _Mutation[Any]) -> Wanted:
        """What a mutation and those that are likely to follow in its group will read."""
        following = islice(self._line.waiting(), MOST_IN_A_GROUP - 1)
        return reduce(or_, (one.wanted for one in following), first.wanted)

    async def _run_group(
        self, group: _Group, transaction: Transaction, first: _Mutation[Any]
    ) -> None:
        loop = asyncio.get_running_loop()
        full_at = loop.time() + _GROUP_SECONDS
        mutation = first
        for members in count(1):
            group.is_restrictive = group.is_restrictive or mutation.is_restrictive
            # What is logged and traced there belongs to the caller.
            work = self._run_one(group, transaction, mutation)
            may_go_on = await asyncio.create_task(work, context=mutation.context)
            is_full = members == MOST_IN_A_GROUP or loop.time() >= full_at
            if is_full or mutation.is_ungrouped or not may_go_on:
                return
            # A revocation waits for the commit, so what is not urgent does not join it.
            following = self._line.take(only_restrictive=group.is_restrictive)
            if following is None:
                return
            if following.is_ungrouped and group.revisions:
                # Nothing has begun, so what overtakes it until the commit is served before it.
                self._line.put_back(
                    following.place, following, restrictive=following.is_restrictive
                )
                return
            following.begins.set_result(None)
            mutation = following

    @staticmethod
    async def _run_one(group: _Group, transaction: Transaction, mutation: _Mutation[T]) -> bool:
        """Runs a mutation in the transaction.

        Returns:
            Whether the transaction may go on.
        """
        group.ends[mutation] = None
        failure: Exception | None = None
        try:
            async with transaction.mutation():
                try:
                    effect = await mutation.work(transaction)
                except Exception as error:
                    failure = error
                    raise
                if effect.changes:
                    if effect.event is None:
                        raise TypeError("a mutation without an audit event")
                    revision = transaction.keep(effect.changes, effect.event)
                    group.revisions.append(Revision(revision, tuple(effect.changes)))
        except Exception as error:
            if error is not failure:
                # It could not be undone.
                raise
            # What it has seen may not come to be. Then its caller is not told yet.
            group.ends[mutation] = error
            if not group.revisions:
                del group.ends[mutation]
                mutation.fail(error)
            return bool(group.revisions)
        is_committed = bool(effect.changes)
        group.ends[mutation] = Done(effect.value, transaction.revision - 1, is_committed)
        return True

    async def _commit(self, transaction: Transaction) -> None:
        try:
            await transaction.commit()
        except BaseException:
            # Whatever went wrong, the commit may have taken effect.
            await self._fence.forget_everything()
            raise

    async def _wait_and_tell(self, group: _Group) -> None:
        """Waits for the fence of a group, and tells its callers."""
        try:
            if group.is_committed:
                # Also if the store failed behind the commit: what is durable must hold.
                await self._fence.wait(group.revisions)
            elif group.ends and group.error is None:
                await self._fence.wait_until_in_effect(group.found_at)
        except Exception as error:  # noqa: BLE001 - each caller is told
            group.error = error
        if group.error is None:
            group.tell()
        else:
            group.fail(group.error)

    @property
    def under_way(self) -> int:
        """How many mutations wait, have the store, or wait for their fence now."""
        return self._unfinished

    @property
    def waiting(self) -> int:
        """How many mutations wait for their turn now."""
        return sum(not mutation.done() for mutation in self._line.waiting())

    async def finish(self) -> None:
        """Waits for the mutations that are under way. Called when the server drains."""
        while self._under_way:
            await asyncio.wait(self._under_way)


def _place_of(caller: Caller) -> Place:
    """Whose turn a mutation takes. All keys and sessions of an account are one caller, and
    all callers of an address without a credential."""
    if caller.own_account is not None:
        return caller.own_account
    if caller.credential_id is None:
        return "", caller.call.address
    return SYSTEM, caller.credential_id
