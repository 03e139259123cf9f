"""Measures the fence and the register."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

from keyfence_server.application.latencies import Latencies
from keyfence_server.application.ports import Fence, FenceEnd, Revision, StoreUnavailable
from keyfence_server.coherence.ports import (
    Register,
    RegisteredProcess,
    RegisterState,
    StorePosition,
)
from keyfence_server.coherence.terms import LeaseTerms
from keyfence_server.telemetry.store_outages import StoreOutages


@dataclass(frozen=True, slots=True)
class LeaseFigures:
    """The state of this process's lease.

    Attributes:
        left: seconds until the lease expires without a renewal; infinity if no lease is
            needed.
        age: seconds since the last granted renewal was sent; infinity if there was none, 0 if
            no lease is needed.
        renewals: granted renewals.
        failed_renewals: renewals that were refused, not answered, or too late.
    """

    left: float
    age: float
    renewals: int
    failed_renewals: int


class FenceStats:
    """Counts how long mutations wait for the fence, and the renewals of the lease.

    Attributes:
        mutations: the wait from the commit on, by what ended the wait.
        repetitions: the wait of calls that repeat a mutation.
        renewals: granted renewals of this process's lease at the store.
        failed_renewals: renewals that the store did not answer, or that were too late.
        struck_off: silent processes that this process removed from the register.
    """

    __slots__ = ("failed_renewals", "mutations", "renewals", "repetitions", "struck_off")

    def __init__(self) -> None:
        self.mutations = {end: Latencies() for end in FenceEnd}
        self.repetitions = {end: Latencies() for end in FenceEnd}
        self.renewals = 0
        self.failed_renewals = 0
        self.struck_off = 0


class MeasuredFence:
    """A fence that measures another one."""

    def __init__(self, fence: Fence, stats: FenceStats) -> None:
        self._fence = fence
        self._stats = stats

    async def wait(self, revisions: Sequence[Revision]) -> FenceEnd:
        """See the port."""
        began = perf_counter()
        end = await self._fence.wait(revisions)
        self._stats.mutations[end].add(perf_counter() - began)
        return end

    async def wait_until_in_effect(self, revision: int) -> FenceEnd:
        """See the port."""
        began = perf_counter()
        end = await self._fence.wait_until_in_effect(revision)
        self._stats.repetitions[end].add(perf_counter() - began)
        return end

    async def forget_everything(self) -> None:
        """See the port."""
        await self._fence.forget_everything()


class MeasuredRegister:
    """A register that measures another one."""

    def __init__(self, register: Register, stats: FenceStats, outages: StoreOutages) -> None:
        self._register = register
        self._stats = stats
        self._outages = outages

    async def join(self, process_id: str, display_name: str, terms: LeaseTerms) -> StorePosition:
        """See the port."""
        return await self._register.join(process_id, display_name, terms)

    async def renew(self, process_id: str, acknowledged: int, epoch: str) -> StorePosition:
        """See the port."""
        try:
            position = await self._register.renew(process_id, acknowledged, epoch)
        except Exception as error:
            self._stats.failed_renewals += 1
            if isinstance(error, StoreUnavailable):
                self._outages.failed(error)
            raise
        self._stats.renewals += 1
        return position

    async def leave(self, process_id: str) -> None:
        """See the port."""
        await self._register.leave(process_id)

    async def list_processes(self) -> list[RegisteredProcess]:
        """See the port."""
        return await self._register.list_processes()

    async def read_state(self, committed: int | None = None) -> RegisterState:
        """See the port."""
        return await self._register.read_state(committed)

    async def confirm(self) -> None:
        """See the port."""
        await self._register.confirm()

    async def settle(self, epoch: str) -> None:
        """See the port."""
        await self._register.settle(epoch)

    async def strike_off(self, process_id: str, renewals: int) -> bool:
        """See the port."""
        struck_off = await self._register.strike_off(process_id, renewals)
        self._stats.struck_off += struck_off
        return struck_off
