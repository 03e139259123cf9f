"""Measures the fence and the register from outside, whatever they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from keyfence_server.application.ports import Change, Fence
from keyfence_server.coherence.ports import Register, RegisteredProcess, Roll, Standing
from keyfence_server.coherence.terms import LeaseTerms
from keyfence_server.rpc.stats import Latencies


class FenceStats:
    """What mutations waited for, and how the lease was kept.

    Attributes:
        by_acknowledgements: fences that everybody acknowledged, from the commit on.
        by_time: those that took a whole W, because somebody did not.
        renewals: of this process's lease at the store.
        failed_renewals: those that the store did not answer, or that came too late.
        struck_off: processes that this one took off the register for their silence.
    """

    __slots__ = ("by_acknowledgements", "by_time", "failed_renewals", "renewals", "struck_off")

    def __init__(self) -> None:
        self.by_acknowledgements = Latencies()
        self.by_time = Latencies()
        self.renewals = 0
        self.failed_renewals = 0
        self.struck_off = 0


class MeasuredFence:
    """A fence that keeps its port and counts."""

    def __init__(self, fence: Fence, stats: FenceStats, terms: LeaseTerms) -> None:
        self._fence = fence
        self._stats = stats
        self._terms = terms

    async def wait(self, revision: int, changes: Sequence[Change]) -> None:
        """See the port."""
        began = perf_counter()
        await self._fence.wait(revision, changes)
        took = perf_counter() - began
        stats = self._stats
        (stats.by_time if took >= self._terms.wait else stats.by_acknowledgements).add(took)

    async def settle(self, revision: int) -> None:
        """See the port."""
        await self._fence.settle(revision)

    async def forget_everything(self) -> None:
        """See the port."""
        await self._fence.forget_everything()


class MeasuredRegister:
    """A register that keeps its port and counts."""

    def __init__(self, register: Register, stats: FenceStats) -> None:
        self._register = register
        self._stats = stats

    async def join(self, process_id: str, display_name: str, terms: LeaseTerms) -> Standing:
        """See the port."""
        return await self._register.join(process_id, display_name, terms)

    async def renew(self, process_id: str, acknowledged: int, epoch: str) -> Standing:
        """See the port."""
        try:
            standing = await self._register.renew(process_id, acknowledged, epoch)
        except Exception:
            self._stats.failed_renewals += 1
            raise
        self._stats.renewals += 1
        return standing

    async def leave(self, process_id: str) -> None:
        """See the port."""
        await self._register.leave(process_id)

    async def list_processes(self) -> list[RegisteredProcess]:
        """See the port."""
        return await self._register.list_processes()

    async def read_roll(self) -> Roll:
        """See the port."""
        return await self._register.read_roll()

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
