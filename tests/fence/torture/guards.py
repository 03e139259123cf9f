"""Takes one guard of the protocol out of this process, to seed a bug of `spec/bugs.toml`.

It patches the product's classes. The product has no switch for this that could be left on.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import os
import threading
import time
from collections.abc import AsyncIterator, Iterable
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import Any, Final

from sqlalchemy import delete, select

from keyfence.holder import clock as boot_clock
from keyfence.holder.fills import Fill
from keyfence.holder.lease import HolderLease
from keyfence.holder.local_checks import LocalChecks
from keyfence.holder.memory import Memory
from keyfence_server.adapters.sql import engines
from keyfence_server.adapters.sql.postgresql_feed import PostgresqlFeed
from keyfence_server.adapters.sql.register import SqlRegister
from keyfence_server.adapters.sql.schema import processes
from keyfence_server.adapters.upstream.following import Following
from keyfence_server.application.mutations import Mutations
from keyfence_server.application.ports import ChangeKind, FenceEnd
from keyfence_server.coherence import applied_revisions, fact_cache, leased_facts
from keyfence_server.coherence.downstream import DownstreamHub
from keyfence_server.coherence.grantor import Grantor
from keyfence_server.coherence.ports import Committed, StorePosition, StruckOff
from keyfence_server.coherence.replica import Replica
from keyfence_server.coherence.shared_fence import SharedFence
from keyfence_server.coherence.terms import LeaseTerms
from keyfence_server.composition import membership

_LATE_SECONDS: Final = 0.25
_LOOK_SECONDS: Final = 0.02


def lease_never_expires() -> None:
    until: Any = HolderLease.__dict__["until"]

    def endless(self: Any) -> float:
        granted: float = until.__get__(self)
        return granted if granted == float("-inf") else float("inf")

    _put(HolderLease, "until", property(endless, until.__set__))


def counted_from_receipt() -> None:
    grant = HolderLease.grant

    def late(self: Any, nonce: int, ttl: float, head: int, epoch: str = "", *more: Any) -> bool:
        if nonce in self._pending:
            ttl += time.clock_gettime(time.CLOCK_BOOTTIME) - self._pending[nonce].sent
        return grant(self, nonce, ttl, head, epoch, *more)

    _put(HolderLease, "grant", late)


def head_is_ignored() -> None:
    # The bug shows while notifications are lost and the change log is slow. Neither is a fault.
    grant, catch_up, listen = HolderLease.grant, Replica.catch_up, PostgresqlFeed.listen

    def blind(self: Any, nonce: int, ttl: float, head: int, epoch: str = "", *more: Any) -> bool:
        return grant(self, nonce, ttl, min(head, self._applied or head), epoch, *more)

    async def slow(self: Any) -> None:
        await asyncio.sleep(_LATE_SECONDS * 2)
        await catch_up(self)

    async def without_notifications(self: Any) -> AsyncIterator[Any]:
        async for one in listen(self):
            if not isinstance(one, Committed):
                yield one

    _put(HolderLease, "grant", blind)
    _put(Replica, "catch_up", slow)
    _put(PostgresqlFeed, "listen", without_notifications)


def acknowledges_first() -> None:
    apply = applied_revisions.AppliedRevisions.apply

    def late(self: Any, revision: int, changes: Any, *, first: int | None = None) -> None:
        cache = self._cache
        self._cache = _Later(cache)
        try:
            apply(self, revision, changes, first=first)
        finally:
            self._cache = cache

    _put(applied_revisions.AppliedRevisions, "apply", late)


class _Later:
    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def apply(self, revision: int, changes: Any, *, first: int) -> None:
        apply = partial(self._cache.apply, revision, changes, first=first)
        asyncio.get_running_loop().call_later(_LATE_SECONDS, apply)


def does_not_wait_downstream() -> None:
    _put(DownstreamHub, "safe_revision", lambda self: self.grantor.head)


def fence_returns_at_once() -> None:
    async def wait(_self: Any, _revisions: Any) -> FenceEnd:
        return FenceEnd.ACKNOWLEDGEMENTS

    _put(SharedFence, "wait", wait)


def fence_forgets_the_others() -> None:
    async def wait_for_none(_self: Any, _others: Any, _revision: int) -> set[str]:
        return set()

    _put(SharedFence, "_wait_for", wait_for_none)


def waits_too_short() -> None:
    _put(LeaseTerms, "wait", property(lambda self: self.length / 3))


def repeated_is_not_fenced() -> None:
    async def at_once(_self: Any, _revision: int) -> FenceEnd:
        return FenceEnd.ACKNOWLEDGEMENTS

    _put(SharedFence, "wait_until_in_effect", at_once)


def fence_before_commit() -> None:
    commit = Mutations._commit

    async def fence_and_commit(self: Any, transaction: Any) -> None:
        await self._fence.wait_until_in_effect(transaction.revision - 1)
        await commit(self, transaction)

    async def at_once(_self: Any, group: Any) -> None:
        if group.error is None:
            group.tell()
        else:
            group.fail(group.error)

    _put(Mutations, "_commit", fence_and_commit)
    _put(Mutations, "_wait_and_tell", at_once)


def fills_are_kept() -> None:
    _put(Fill, "is_overtaken", lambda self, _revision, _concerns, *, epoch="": epoch != self.epoch)


def joins_loads() -> None:
    async def memory(self: Any) -> Any:
        return self._cache

    _put(leased_facts.LeasedFacts, "_memory", memory)


def outlives_its_grantor() -> None:
    _put(LeaseTerms, "nested", lambda self, _remaining: self.length)


def remembers_decisions() -> None:
    check = LocalChecks.check_scope

    def remembered(self: Any, api_key: str, required: Any, *rest: Any) -> Any:
        decided = self.__dict__.setdefault("decided", {})
        entry = self.memory.find(self.memory.digest(api_key))
        if entry is not None and entry in decided:
            return replace(decided[entry])
        answer = check(self, api_key, required, *rest)
        if entry is not None and answer is not None:
            decided[entry] = answer
        return answer

    _put(LocalChecks, "check_scope", remembered)


def keyspaces_are_not_applied() -> None:
    apply = fact_cache.FactCache.apply

    def forgetful(self: Any, revision: int, changes: Any, *, first: int | None = None) -> None:
        kept = [one for one in changes if one.kind is not ChangeKind.KEYSPACE]
        apply(self, revision, kept, first=first)

    _put(fact_cache.FactCache, "apply", forgetful)


def sidecar_does_not_apply() -> None:
    def deaf(self: Any, changes: Any) -> None:
        first = changes.first_revision or changes.revision
        self._revisions.apply(changes.revision, [], first=first)

    _put(Following, "apply", deaf)


def sdk_does_not_apply() -> None:
    def deaf(self: Any, changes: Any) -> bool:
        self.applied = changes.revision
        return False

    _put(Memory, "apply", deaf)


def gone_is_forgotten() -> None:
    _put(Grantor, "leave", lambda self, holder: self._holders.pop(holder, None))


def renews_by_itself() -> None:
    async def never(self: Any) -> None:
        while True:
            nonce = self._lease.request(self._clock.now())
            self._lease.grant(nonce, self._terms.length, self._revisions.applied, self._epoch or "")
            await asyncio.sleep(self._terms.renewal_interval)

    _put(Replica, "_renew", never)


def lease_by_wall_clock() -> None:
    _put(boot_clock, "_BOOT_CLOCK", time.CLOCK_REALTIME)


def clock_sleeps() -> None:
    _put(boot_clock, "time", _SleepyClock())


class _SleepyClock:
    """Stands in for the module `time`. Goes on only while a thread of this process does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown, self._looked = 0.0, time.monotonic()
        self._pid = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def clock_gettime(self, _clock: int) -> float:
        with self._lock:
            if self._pid != os.getpid():
                self._pid = os.getpid()
                threading.Thread(target=self._look_often, daemon=True).start()
            now = time.monotonic()
            # No thread has read the clock for so long: the process was not running.
            self._shown += min(now - self._looked, 20 * _LOOK_SECONDS)
            self._looked = now
            return self._shown

    def _look_often(self) -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            self.clock_gettime(time.CLOCK_MONOTONIC)


def commits_are_relaxed() -> None:
    relaxed = engines._SESSION_SETTINGS.replace("ELSE 'on' END", "ELSE 'off' END")
    _put(engines, "_SESSION_SETTINGS", relaxed)


def renewal_is_no_write() -> None:
    async def look(self: Any, process_id: str, _acknowledged: int, epoch: str) -> StorePosition:
        async with self._transaction() as connection:
            position: StorePosition = (await self._state(connection)).position
            mine = select(processes.c.process_id).where(processes.c.process_id == process_id)
            if position.epoch != epoch or (await connection.execute(mine)).first() is None:
                raise StruckOff(process_id)
            return position

    _put(SqlRegister, "renew", look)


def counted_from_before_commit() -> None:
    began: ContextVar[float] = ContextVar("began")
    carry_out, wait = Mutations._carry_out, SharedFence.wait

    async def timed(self: Any, group: Any, first: Any) -> Any:
        # The task of the fence begins with a copy of this context.
        began.set(time.clock_gettime(time.CLOCK_BOOTTIME))
        return await carry_out(self, group, first)

    async def short(self: Any, revisions: Any) -> FenceEnd:
        left = began.get() + self._terms.wait - time.clock_gettime(time.CLOCK_BOOTTIME)
        await asyncio.wait([asyncio.ensure_future(wait(self, revisions))], timeout=max(0.0, left))
        return FenceEnd.TIME

    _put(Mutations, "_carry_out", timed)
    _put(SharedFence, "wait", short)


def struck_off_too_soon() -> None:
    watch = Replica._watch

    async def impatient(self: Any) -> None:
        await watch(_Impatient(self))  # type: ignore[arg-type]

    _put(Replica, "_watch", impatient)


class _ShortTerms(LeaseTerms):
    """Terms that the terms of other processes do not lengthen."""

    def outlasting(self, others: Iterable[LeaseTerms]) -> LeaseTerms:
        return self


class _Impatient:
    """A replica that has other terms."""

    def __init__(self, replica: Any) -> None:
        self.__dict__["replica"] = replica

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.replica, name)
        if name == "_terms":
            return _ShortTerms(found.length / 3, found.drift, found.slack)
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.replica, name, value)


def struck_off_unseen() -> None:
    async def strike_off(self: Any, process_id: str, _renewals: int) -> bool:
        async with self._transaction() as connection:
            struck = await connection.execute(
                delete(processes).where(processes.c.process_id == process_id)
            )
        return bool(struck.rowcount)

    _put(SqlRegister, "strike_off", strike_off)


def returns_with_its_memory() -> None:
    def start_at(self: Any, revision: int) -> None:
        self._revision = revision
        self._ahead.clear()

    _put(fact_cache.FactCache, "start_at", start_at)


def keeps_its_name() -> None:
    name = hashlib.sha256(os.environ.get("KEYFENCE_LISTEN", "").encode()).hexdigest()[:24]
    _put(membership, "_new_process_id", lambda: f"srv_{name}")


def leaves_too_soon() -> None:
    async def at_once(_self: Any) -> None:
        return

    _put(DownstreamHub, "wait_lost", at_once)


def _put(owner: Any, name: str, what: Any) -> None:
    require_fit(owner, name, what)
    setattr(owner, name, what)


def require_fit(owner: Any, name: str, what: Any) -> None:
    """Raises `AttributeError` or `TypeError` unless what is put there can be called as what it
    replaces: else the build breaks nothing, or fails in another way than it says."""
    if not hasattr(owner, name):
        raise AttributeError(f"{owner}.{name} is no more: this build breaks nothing")
    before = inspect.getattr_static(owner, name)
    if inspect.isfunction(before) and inspect.isfunction(what):
        parameters = inspect.signature(before).parameters.values()
        by_place = [one for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
        by_name = {one.name: one for one in parameters if one.kind is one.KEYWORD_ONLY}
        inspect.signature(what).bind(*by_place, **by_name)
