"""Builds with one guard missing each, to show that the torture would notice.

    python -m fence.torture.broken NAME serve

It patches the product's classes in a process of its own, and then starts the command. The
product knows nothing of it: there is no switch in there that could be left on.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from fence.torture.proxy import Mode
from keyfence._holder.cached import LocalChecks
from keyfence._holder.lease import HolderLease
from keyfence._holder.memory import Memory
from keyfence_server.adapters.sql.postgresql_feed import PostgresqlFeed
from keyfence_server.adapters.upstream.following import Following
from keyfence_server.application.mutations import Mutations
from keyfence_server.application.ports import ChangeKind
from keyfence_server.coherence import fact_cache, leased_facts, ledger
from keyfence_server.coherence.authority_fence import AuthorityFence
from keyfence_server.coherence.downstream import DownstreamHub
from keyfence_server.coherence.ports import Committed
from keyfence_server.coherence.replica import Replica
from keyfence_server.coherence.terms import LeaseTerms

_LATE_SECONDS: Final = 0.25


def _lease_never_expires() -> None:
    """I2: what was granted once is good for ever."""
    until = HolderLease.until

    def endless(self: Any) -> float:
        granted: float = until.fget(self)  # type: ignore[attr-defined]
        return granted if granted == float("-inf") else float("inf")

    _put(HolderLease, "until", property(endless))
    _put(HolderLease, "is_live", lambda self, now: now < self.until)


def _counted_from_receipt() -> None:
    """I2: a lease is counted from when it comes, and not from when it was asked for."""
    grant = HolderLease.grant

    def late(self: Any, nonce: int, ttl: float, head: int, epoch: str = "") -> bool:
        if nonce in self._pending:
            ttl += time.clock_gettime(time.CLOCK_BOOTTIME) - self._pending[nonce].sent
        return grant(self, nonce, ttl, head, epoch)

    _put(HolderLease, "grant", late)


def _head_is_ignored() -> None:
    """I2: a grant counts before everything up to its head is applied.

    That shows while the news do not come and the change log is slow, which is no fault.
    """
    grant, catch_up, listen = HolderLease.grant, Replica.catch_up, PostgresqlFeed.listen

    def blind(self: Any, nonce: int, ttl: float, head: int, epoch: str = "") -> bool:
        return grant(self, nonce, ttl, min(head, self._applied or head), epoch)

    async def slow(self: Any) -> None:
        await asyncio.sleep(_LATE_SECONDS * 2)
        await catch_up(self)

    async def without_news(self: Any) -> AsyncIterator[Any]:
        async for one in listen(self):
            if not isinstance(one, Committed):
                yield one

    _put(HolderLease, "grant", blind)
    _put(Replica, "catch_up", slow)
    _put(PostgresqlFeed, "listen", without_news)


def _acknowledges_first() -> None:
    """I3: a change is acknowledged, and applied a moment later."""
    take = ledger.Ledger.take

    def late(self: Any, revision: int, changes: Any) -> None:
        cache = self._cache
        self._cache = _Later(cache)
        try:
            take(self, revision, changes)
        finally:
            self._cache = cache

    _put(ledger.Ledger, "take", late)


class _Later:
    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def apply(self, revision: int, changes: Any) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(_LATE_SECONDS, self._cache.apply, revision, changes)


def _does_not_wait_downstream() -> None:
    """I3: a holder acknowledges for itself, whatever those downstream of it have applied."""
    _put(DownstreamHub, "settled", lambda self: self._grantor.head)


def _fence_returns_at_once() -> None:
    """I4: OK as soon as it is committed."""

    async def wait(_self: Any, _revision: int, _changes: Any) -> None:
        return

    _put(AuthorityFence, "wait", wait)


def _fence_forgets_the_others() -> None:
    """I4: nobody else's acknowledgement is waited for."""

    async def nobody(_self: Any, _others: Any, _revision: int) -> set[str]:
        return set()

    _put(AuthorityFence, "_wait_for", nobody)


def _waits_too_short() -> None:
    """I4: W is a third of what it must be."""
    _put(LeaseTerms, "wait", property(lambda self: self.length / 3))


def _repeated_is_not_fenced() -> None:
    """I4: a mutation that was done already is taken to hold already."""

    async def settle(_self: Any, _revision: int) -> None:
        return

    _put(AuthorityFence, "settle", settle)


def _fence_before_commit() -> None:
    """I1: first the fence, then the commit."""

    async def carry_out(self: Any, work: Any) -> Any:
        from keyfence_server.application.mutations import Done  # noqa: PLC0415

        async with self._store.transaction() as transaction:
            effect = await work(transaction)
            found_at = transaction.revision - 1
            if not effect.changes:
                return Done(effect.value, found_at)
            await self._fence.wait(found_at, effect.changes)
            return Done(effect.value, await self._commit(transaction, effect))

    _put(Mutations, "_carry_out", carry_out)


def _fills_are_kept() -> None:
    """I5: what is loaded is kept, though it may be older than what was applied meanwhile."""
    _put(fact_cache._Load, "is_overtaken", lambda _self, _concerns: False)
    _put(Memory, "_is_overtaken", staticmethod(lambda _fill, _revision, _entry: False))


def _joins_loads() -> None:
    """I5: without a lease, checks share the loads that are under way."""
    _put(leased_facts.LeasedFacts, "_memory", lambda self: self._cache)


def _outlives_its_grantor() -> None:
    """I6: a holder grants leases that last longer than its own."""
    _put(LeaseTerms, "nested", lambda self, _remaining: self.length)


def _remembers_decisions() -> None:
    """I7: what was decided for one scope is answered for another."""
    check = LocalChecks.check_scope

    def remembered(self: Any, api_key: str, required: Any, *rest: Any) -> Any:
        decided = self.__dict__.setdefault("decided", {})
        entry = self._memory.find(self._memory.digest(api_key))
        if entry is not None and entry in decided:
            return replace(decided[entry])
        answer = check(self, api_key, required, *rest)
        if entry is not None and answer is not None:
            decided[entry] = answer
        return answer

    _put(LocalChecks, "check_scope", remembered)


def _keyspaces_are_not_applied() -> None:
    """A kind of change that somebody forgot."""
    apply = fact_cache.FactCache.apply

    def forgetful(self: Any, revision: int, changes: Any) -> None:
        apply(self, revision, [one for one in changes if one.kind is not ChangeKind.KEYSPACE])

    _put(fact_cache.FactCache, "apply", forgetful)


def _sidecar_does_not_apply() -> None:
    """A sidecar that passes changes on, and goes on answering as before."""

    def deaf(self: Any, revision: int, _changes: Any) -> None:
        self._ledger.take(revision, [])

    _put(Following, "apply", deaf)


def _sdk_does_not_apply() -> None:
    """A client's cache that acknowledges, and goes on answering as before."""

    def deaf(self: Any, revision: int, _changes: Any) -> bool:
        self._applied = revision
        return False

    _put(Memory, "apply", deaf)


def _gone_is_forgotten() -> None:
    """I3: a holder whose stream has ended is no longer waited for, whatever its lease."""
    from keyfence_server.coherence.grantor import Grantor  # noqa: PLC0415

    _put(Grantor, "leave", lambda self, holder: self._holders.discard(holder))


def _renews_by_itself() -> None:
    """I2: a process that has lost the register goes on, and trusts that the news come."""

    async def never(self: Any) -> None:
        while True:
            nonce = self._lease.request(self._clock.now())
            self._lease.grant(nonce, self._terms.length, self._ledger.applied, self._epoch or "")
            await asyncio.sleep(self._terms.renewal_interval)

    _put(Replica, "_renew", never)


@dataclass(frozen=True, slots=True)
class Build:
    """How to take the guard out, and where its absence shows soonest.

    Attributes:
        modes: the faults of links that most of the run's faults are drawn from.
        links: the part of a link's name that says which.
        favoured: the kinds of faults that most are drawn from, if not those of links.
        lease_seconds: short, so that everything is quicker, unless it must be long to show.
    """

    take_out: Callable[[], None]
    modes: tuple[Mode, ...] = ()
    links: str = ""
    favoured: tuple[str, ...] = ()
    lease_seconds: float = 0.5

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of faults that most of the run's faults are drawn from; none: it shows
        without any."""
        return self.favoured or (("link",) if self.modes else ())


BUILDS: Final[dict[str, Build]] = {
    "lease-never-expires": Build(_lease_never_expires, (Mode.BLACKHOLE,)),
    "counted-from-receipt": Build(_counted_from_receipt, (Mode.LATE,), "-s"),
    "head-is-ignored": Build(_head_is_ignored),
    "renews-by-itself": Build(_renews_by_itself, (Mode.BLACKHOLE,), "database"),
    "acknowledges-first": Build(_acknowledges_first),
    "does-not-wait-downstream": Build(_does_not_wait_downstream, (Mode.SLOW, Mode.DEAF), "-s"),
    "gone-is-forgotten": Build(_gone_is_forgotten, (Mode.CUT,), "-s"),
    "fence-returns-at-once": Build(_fence_returns_at_once, (Mode.BLACKHOLE, Mode.DEAF)),
    "fence-forgets-the-others": Build(_fence_forgets_the_others, (Mode.BLACKHOLE, Mode.DEAF)),
    "waits-too-short": Build(_waits_too_short, (Mode.BLACKHOLE, Mode.DEAF)),
    "repeated-is-not-fenced": Build(_repeated_is_not_fenced, (Mode.BLACKHOLE, Mode.DEAF)),
    "fence-before-commit": Build(_fence_before_commit, (Mode.BLACKHOLE, Mode.DEAF)),
    "fills-are-kept": Build(_fills_are_kept, (Mode.JITTER, Mode.SLOW)),
    "joins-loads": Build(_joins_loads, (Mode.DEAF,), "database"),
    "outlives-its-grantor": Build(_outlives_its_grantor, (Mode.BLACKHOLE,), "database"),
    "remembers-decisions": Build(_remembers_decisions),
    "keyspaces-are-not-applied": Build(_keyspaces_are_not_applied),
    "sidecar-does-not-apply": Build(_sidecar_does_not_apply),
    "sdk-does-not-apply": Build(_sdk_does_not_apply),
}


def break_this_process(name: str | None) -> None:
    """Takes a guard out of this process. None: of none."""
    if name is not None:
        BUILDS[name].take_out()


def _put(owner: Any, name: str, what: Any) -> None:
    if not hasattr(owner, name):
        raise AttributeError(f"{owner.__name__}.{name} is no more: this build breaks nothing")
    setattr(owner, name, what)


def main() -> None:
    """Runs the command, broken."""
    from keyfence_server.cli import main as command  # noqa: PLC0415

    name = sys.argv.pop(1)
    break_this_process(name)
    command()


if __name__ == "__main__":
    main()
