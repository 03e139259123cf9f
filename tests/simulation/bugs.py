"""Bugs put into the protocol on purpose, one at a time, to show that the scenarios find them.

Each takes one guard away, in a subclass that the simulation alone uses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from keyfence.holder.fills import Fill
from keyfence.holder.lease import HolderLease
from keyfence.holder.memory import Memory
from keyfence.v1 import replication_service_pb2 as messages
from keyfence_server.application.ports import Change, FenceEnd, Revision, StoreUnavailable
from keyfence_server.coherence.applied_revisions import AppliedRevisions
from keyfence_server.coherence.downstream import DownstreamHub, HolderStream
from keyfence_server.coherence.fact_cache import FactCache
from keyfence_server.coherence.grantor import Granted, Grantor, HolderRecord, _Grant
from keyfence_server.coherence.leased_facts import LeasedFacts
from keyfence_server.coherence.ports import RegisterState, StorePosition
from keyfence_server.coherence.replica import Replica
from keyfence_server.coherence.shared_fence import SharedFence
from keyfence_server.coherence.succession import Succession
from keyfence_server.coherence.terms import LeaseTerms
from keyfence_server.domain.facts import KeyFacts
from simulation.checker import Slow, Stale, Violation
from simulation.database import Contents, SimulatedRegister
from simulation.fault_plan import FaultPlan
from simulation.loop import here
from simulation.topology import Parts


class CountsFromReceipt(HolderLease):
    def grant(
        self,
        nonce: int,
        ttl: float,
        head: int,
        epoch: str = "",
        forget: Callable[[], None] = lambda: None,
    ) -> bool:
        request = self._pending.get(nonce)
        late = here().clock.now() - request.sent if request is not None else 0.0
        return super().grant(nonce, ttl + late, head, epoch, forget)


class IgnoresTheHead(HolderLease):
    def grant(
        self,
        nonce: int,
        ttl: float,
        head: int,
        epoch: str = "",
        forget: Callable[[], None] = lambda: None,
    ) -> bool:
        known = head if self._applied is None else min(head, self._applied)
        return super().grant(nonce, ttl, known, epoch, forget)


class NeverRunsOut(LeasedFacts):
    def recall(self, digest: bytes) -> KeyFacts | None:
        return self._cache.recall(digest)


class JoinsLoads(LeasedFacts):
    async def _memory(self) -> FactCache:
        return self._cache


class AcknowledgesFirst(AppliedRevisions):
    def apply(self, revision: int, changes: Sequence[Change], *, first: int | None = None) -> None:
        cache = self._cache
        self._cache = _Later(cache)  # type: ignore[assignment]
        super().apply(revision, changes, first=first)
        self._cache = cache


class _Later:
    def __init__(self, cache: FactCache) -> None:
        self._cache = cache

    def apply(self, revision: int, changes: Sequence[Change], *, first: int) -> None:
        apply = partial(self._cache.apply, revision, changes, first=first)
        asyncio.get_running_loop().call_later(0.05, apply)


class AcknowledgesForItselfAlone(DownstreamHub):
    def safe_revision(self) -> int:
        return self.grantor.head


class ForgetsDebts(DownstreamHub):
    def open(self, holder_id: str, *more: Any) -> HolderStream:
        gone = self.grantor._gone
        for one in [one for one in gone if one.holder_id == holder_id]:
            del gone[one]
        stream = super().open(holder_id, *more)
        self.progress.announce()
        return stream


class ForgetsTheGone(Grantor):
    def leave(self, holder: HolderRecord) -> None:
        self._holders.pop(holder, None)


class WithoutMargin(Grantor):
    def renew(self, holder: HolderRecord, now: float, remaining: float) -> Granted:
        before = {one.head: one.ends for one in holder.grants}
        granted = super().renew(holder, now, remaining)
        if granted.ttl:
            last = holder.grants[-1]
            last.ends = max(before.get(last.head, now), now + granted.ttl)
        return granted


class ProlongsDebts(Grantor):
    def renew(self, holder: HolderRecord, now: float, remaining: float) -> Granted:
        granted = super().renew(holder, now, remaining)
        if holder.grants:
            holder.grants[:] = [_Grant(holder.grants[0].head, holder.lease_ends)]
        return granted


class GrantsToLaggards(Grantor):
    def may_renew(self, holder: HolderRecord, now: float) -> bool:
        return True


class WithoutDrift(LeaseTerms):
    @property
    def wait(self) -> float:
        return self.length

    def outlasting(self, others: Iterable[LeaseTerms]) -> LeaseTerms:
        return self


class OutlivesItsGrantor(LeaseTerms):
    def nested(self, remaining: float) -> float:
        return self.length if remaining > 0 else 0.0


class StrikesOffEarly(Replica):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        terms = self._terms
        self._terms = _Impatient(terms.length, terms.drift, terms.slack)


class _Impatient(LeaseTerms):
    @property
    def wait(self) -> float:
        return self.length / 3

    def outlasting(self, others: Iterable[LeaseTerms]) -> LeaseTerms:
        return self


class LeavesAtOnce(Replica):
    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._lease.abandon()
        await self._register.leave(self.process_id)


class ComesBackWithItsMemory(Replica):
    async def _join(self) -> None:
        nonce = self._lease.request(self._clock.now())
        position = await self._register.join(self.process_id, self._display_name, self._terms)
        self._epoch = position.epoch
        if not self._lease.has_started:
            self._granted(nonce, position)
            return
        self._lease.grant(nonce, self._terms.length, self._lease.applied, position.epoch)


class KeepsOldFills(FactCache):
    @contextmanager
    def _fill(self) -> Iterator[Fill[Change]]:
        with super()._fill() as fill:
            yield fill
            _forget_changes(fill)


class KeepsDecisions(FactCache):
    def recall(self, digest: bytes) -> KeyFacts | None:
        return self._entries.get(digest)


class KeepsOldFillsInTheSdk(Memory):
    def end_fill(
        self, fill: Fill[str], digest: bytes, response: messages.FetchFactsResponse
    ) -> bool:
        _forget_changes(fill)
        return super().end_fill(fill, digest, response)


def _forget_changes(fill: Fill[Any]) -> None:
    fill.started_at, fill.is_void = 0, False
    fill.changes.clear()


class RegistersWithoutTheLock(SimulatedRegister):
    async def join(self, process_id: str, display_name: str, terms: LeaseTerms) -> StorePosition:
        position = await self._database.ask(self._process, self.position)
        # The transaction may have more to do.
        await asyncio.sleep(self._database._random.uniform(0.0, 0.1))
        await self._database.ask(self._process, lambda: self.insert(process_id, terms))
        return position


class StrikesOffUnseen(SimulatedRegister):
    async def strike_off(self, process_id: str, renewals: int) -> bool:
        # The process that was silent may renew meanwhile.
        await asyncio.sleep(self._database._random.uniform(0.0, 0.2))
        return await self._database.ask(self._process, lambda: self.remove(process_id))


class IgnoresTheEpoch(SimulatedRegister):
    async def renew(self, process_id: str, acknowledged: int, epoch: str) -> StorePosition:
        position = await super().renew(process_id, acknowledged, self._database.epoch)
        return StorePosition(position.head, epoch, position.is_settled)


class NeverUnsettled(SimulatedRegister):
    def position_of(self, epoch: str, contents: Contents) -> StorePosition:
        position = super().position_of(epoch, contents)
        return StorePosition(position.head, position.epoch, is_settled=True)


class TakesSilenceForConsent(SharedFence):
    async def _read_register(self, committed: int | None) -> RegisterState:
        try:
            return await self._register.read_state(committed)
        except StoreUnavailable:
            position = StorePosition(0, self._replica._epoch, is_settled=True)
            return RegisterState(position, ())


class ForgetsPredecessors(Succession):
    async def outlast(self) -> bool:
        return False


class RepeatsWithoutFence(SharedFence):
    async def wait_until_in_effect(self, revision: int) -> FenceEnd:
        return FenceEnd.ACKNOWLEDGEMENTS


class WaitsForTheFirstOfAGroup(SharedFence):
    async def wait(self, revisions: Sequence[Revision]) -> FenceEnd:
        return await super().wait(revisions[:1])


def _any_plan(_plan: FaultPlan) -> bool:
    return True


def _brings(*kinds: str) -> Callable[[FaultPlan], bool]:
    return lambda plan: not plan.brings.isdisjoint(kinds)


def _drifts_far(plan: FaultPlan) -> bool:
    return plan.drift > 0.2


def _servers_change(plan: FaultPlan) -> bool:
    return not plan.is_sole and not plan.brings.isdisjoint(("kill", "join", "drain"))


def _streams_break(plan: FaultPlan) -> bool:
    kinds = ("reset", "silence", "sever", "kill", "drain", "breaks", "silences")
    return plan.sidecars + plan.sdks > 0 and not plan.brings.isdisjoint(kinds)


def _servers_fall_silent(plan: FaultPlan) -> bool:
    kinds = ("pause", "cut", "slow", "outage", "questions", "answers")
    return not plan.is_sole and not plan.brings.isdisjoint(kinds)


def _sole_servers_change(plan: FaultPlan) -> bool:
    return plan.is_sole and not plan.brings.isdisjoint(("kill", "drain"))


@dataclass(frozen=True)
class Bug:
    """How to seed a bug of `spec/bugs.toml` in the simulation.

    Attributes:
        parts: the parts of the topology, one of them faulty.
        found_by: the seed to try first, where it takes many seeds to find the bug. If that
            seed's scenario has changed since, the other seeds are tried from the beginning.
        breaks: the violation that shows the bug.
        needs: tells of a fault plan whether the bug can show in its scenario. The search skips
            the other seeds, which it would play in vain.
    """

    parts: Callable[[], Parts]
    found_by: int = 0
    breaks: type[Violation] = Stale
    needs: Callable[[FaultPlan], bool] = _any_plan


BUGS: Final[dict[str, Bug]] = {
    "I2-lease": Bug(lambda: Parts(facts=NeverRunsOut)),
    "I2-sent": Bug(lambda: Parts(lease=CountsFromReceipt), found_by=851),
    "I2-head": Bug(
        lambda: Parts(lease=IgnoresTheHead),
        found_by=490,
    ),
    "I3-own": Bug(lambda: Parts(revisions=AcknowledgesFirst)),
    "I3-downstream": Bug(lambda: Parts(hub=AcknowledgesForItselfAlone)),
    "I3-margin": Bug(lambda: Parts(grantor=WithoutMargin), found_by=190, needs=_drifts_far),
    "I3-stream": Bug(lambda: Parts(grantor=ForgetsTheGone), found_by=104, needs=_streams_break),
    "I3-back": Bug(lambda: Parts(hub=ForgetsDebts), found_by=3331, needs=_streams_break),
    "I3-leave": Bug(lambda: Parts(replica=LeavesAtOnce), found_by=263, needs=_brings("drain")),
    "I4-drift": Bug(lambda: Parts(terms=WithoutDrift), found_by=401, needs=_drifts_far),
    "I4-whole": Bug(lambda: Parts(replica=StrikesOffEarly)),
    "I4-lock": Bug(
        lambda: Parts(register=RegistersWithoutTheLock), found_by=3015, needs=_servers_change
    ),
    "I4-empty": Bug(
        lambda: Parts(replica=ComesBackWithItsMemory), found_by=70, needs=_servers_fall_silent
    ),
    "I4-counter": Bug(
        lambda: Parts(register=StrikesOffUnseen), found_by=2587, needs=_servers_fall_silent
    ),
    "I4-name": Bug(lambda: Parts(keeps_names=True), found_by=263, needs=_servers_change),
    "I4-sole": Bug(
        lambda: Parts(succession=ForgetsPredecessors), found_by=203, needs=_sole_servers_change
    ),
    "I4-repeat": Bug(lambda: Parts(fence=RepeatsWithoutFence)),
    "I4-group": Bug(lambda: Parts(fence=WaitsForTheFirstOfAGroup)),
    "I4-register": Bug(
        lambda: Parts(fence=TakesSilenceForConsent),
    ),
    "I4-timeline": Bug(
        lambda: Parts(register=IgnoresTheEpoch), found_by=2117, needs=_brings("failover", "loss")
    ),
    "I4-settle": Bug(
        lambda: Parts(register=NeverUnsettled), found_by=1820, needs=_brings("failover", "loss")
    ),
    "I5-discard": Bug(lambda: Parts(cache=KeepsOldFills)),
    "I5-sdk": Bug(
        lambda: Parts(memory=KeepsOldFillsInTheSdk),
    ),
    "I5-join": Bug(lambda: Parts(facts=JoinsLoads)),
    "I6": Bug(
        lambda: Parts(terms=OutlivesItsGrantor),
    ),
    "I8-head": Bug(
        lambda: Parts(grantor=ProlongsDebts),
        breaks=Slow,
    ),
    "I8-laggard": Bug(
        lambda: Parts(grantor=GrantsToLaggards),
        breaks=Slow,
    ),
    "I7": Bug(lambda: Parts(cache=KeepsDecisions)),
}
