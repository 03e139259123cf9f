"""Measures the fence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

from keyfence_server.application.latencies import Latencies
from keyfence_server.application.ports import Fence, FenceEnd, Revision


@dataclass(frozen=True, slots=True)
class LeaseFigures:
    """The state of this process's lease.

    Attributes:
        left: seconds until the lease expires without a renewal; infinity if no lease is needed.
        age: seconds since the last granted renewal was sent; infinity if there was none, 0 if
            no lease is needed.
        renewals: granted renewals.
        failed_renewals: renewals that were refused, not answered, or too late.
        struck_off: silent processes that this process removed from the register.
    """

    left: float
    age: float
    renewals: int
    failed_renewals: int
    struck_off: int = 0


def _by_end() -> dict[FenceEnd, Latencies]:
    return {end: Latencies() for end in FenceEnd}


@dataclass(eq=False, slots=True)
class FenceStats:
    """Counts how long mutations wait for the fence.

    Attributes:
        mutations: the wait from the commit on, by what ended the wait.
        repetitions: the wait of calls that repeat a mutation.
    """

    mutations: dict[FenceEnd, Latencies] = field(default_factory=_by_end)
    repetitions: dict[FenceEnd, Latencies] = field(default_factory=_by_end)


@dataclass(eq=False)
class MeasuredFence:
    """A fence that measures another one."""

    _fence: Fence
    _stats: FenceStats

    async def wait(self, revisions: Sequence[Revision]) -> FenceEnd:
        began = perf_counter()
        end = await self._fence.wait(revisions)
        self._stats.mutations[end].add(perf_counter() - began)
        return end

    async def wait_until_in_effect(self, revision: int) -> FenceEnd:
        began = perf_counter()
        end = await self._fence.wait_until_in_effect(revision)
        self._stats.repetitions[end].add(perf_counter() - began)
        return end

    async def forget_everything(self) -> None:
        await self._fence.forget_everything()
