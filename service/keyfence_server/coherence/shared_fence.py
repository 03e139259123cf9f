"""The fence among several processes on a store.

A mutation is in effect everywhere when every registered process has acknowledged it, for itself
and for all holders downstream of it; or when W has passed since the commit returned, by this
process's own clock, because every lease from before the commit has expired by then (rule I4).
Acknowledgements only shorten the wait, and only on a timeline of the store on which they can be
trusted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from keyfence_server.application.ports import FenceEnd, Revision, StoreUnavailable
from keyfence_server.coherence.downstream import DownstreamHub
from keyfence_server.coherence.ports import BootClock, Register, RegisteredProcess, RegisterState
from keyfence_server.coherence.progress import wait_until
from keyfence_server.coherence.replica import Replica
from keyfence_server.coherence.terms import LeaseTerms

_RETRY_SECONDS: Final = 0.1

_log = structlog.get_logger("keyfence.coherence")


class _Bound:
    """When every lease from before a commit has expired.

    All registered processes have the same terms. So a process knows W if it has had a lease since
    the commit, because it was registered then, or if it has read the register since. A process that
    was struck off without noticing does not know the terms of the processes that registered later.
    """

    def __init__(self, committed_by: float, terms: LeaseTerms, *, is_certain: bool) -> None:
        self._committed_by = committed_by
        self._terms = terms
        self.is_certain = is_certain

    @property
    def expires_at(self) -> float:
        """By the clock from which the time of the commit was read."""
        return self._committed_by + self._terms.wait

    def take(self, register: RegisterState) -> None:
        """Adds the terms of the processes that were registered after the commit."""
        self._terms = self._terms.outlasting(one.terms for one in register.processes)
        self.is_certain = True


@dataclass(eq=False)
class SharedFence:
    """Implements the `Fence` port for one of several processes."""

    _replica: Replica
    _register: Register
    _hub: DownstreamHub
    _terms: LeaseTerms
    _clock: BootClock

    async def wait(self, revisions: Sequence[Revision]) -> FenceEnd:
        """Returns when no holder answers from before the last of the revisions: after W at the
        latest. A holder that has acknowledged the last one has acknowledged all of them."""
        self._replica.note_own([one.number for one in revisions])
        revision = revisions[-1].number
        return await self._wait(revision, committed=revision)

    async def _wait(self, revision: int, *, committed: int | None = None) -> FenceEnd:
        # This process does not apply the changes here. It learns of them from the feed or the
        # change log, because a failover may have lost them meanwhile.
        bound = _Bound(self._clock.now(), self._terms, is_certain=self._replica.has_lease())
        acknowledged = asyncio.ensure_future(
            self._wait_for_acknowledgements(revision, bound, committed)
        )
        timer = asyncio.ensure_future(self._outlast(bound))
        try:
            await asyncio.wait((acknowledged, timer), return_when=asyncio.FIRST_COMPLETED)
            if acknowledged.done() and acknowledged.exception() is not None:
                # The error says nothing about the other processes, so only W ends the fence.
                _log.error(
                    "fence_by_time_only", revision=revision, exc_info=acknowledged.exception()
                )
            elif acknowledged.done() and (end := acknowledged.result()) is not None:
                return end
            await timer
            return FenceEnd.TIME
        finally:
            timer.cancel()
            acknowledged.cancel()

    async def wait_until_in_effect(self, revision: int) -> FenceEnd:
        """Returns when everything up to the revision is in effect everywhere.

        The process that committed the revision may have died before its fence ended, at an unknown
        time. So W counts from now. That process may not have waited for the store's standby
        either: such a commit can be read, and can be lost in a failover. So it is confirmed first.
        """
        await self._register.confirm()
        return await self._wait(revision)

    async def forget_everything(self) -> None:
        """Does nothing: a commit whose answer was lost stands in the change log, which is read
        before the next lease counts. Until then the present lease is valid, because no caller was
        told that the mutation is in effect."""

    async def _outlast(self, bound: _Bound) -> None:
        """Returns when time alone ends the fence."""
        while not bound.is_certain and not self._replica.has_lease():
            await self._clock.sleep_until(self._clock.now() + _RETRY_SECONDS)
        while self._clock.now() < bound.expires_at:
            await self._clock.sleep_until(bound.expires_at)

    async def _wait_for_acknowledgements(
        self, revision: int, bound: _Bound, committed: int | None
    ) -> FenceEnd | None:
        """Returns how the fence ended, once every holder here and elsewhere has acknowledged or has
        lost its lease; None if no acknowledgement counts now."""
        owing: set[str] | None = None
        end = FenceEnd.ACKNOWLEDGEMENTS
        while owing is None or owing:
            # Read after the commit, or before it under the head's lock. A process that registered
            # later was given a head that has the revision. A process that is no longer registered
            # has no lease.
            register = await self._read_register(committed)
            committed = None
            bound.take(register)
            if not self._replica.may_trust(register.position):
                return None
            if owing and not owing.issubset(one.process_id for one in register.processes):
                end = FenceEnd.TIME
            others = [
                one
                for one in register.processes
                if one.process_id != self._replica.process_id
                and (owing is None or one.process_id in owing)
            ]
            owing = await self._wait_for(others, revision)
        if self._replica.applied < revision:
            with suppress(StoreUnavailable):
                await self._replica.catch_up()
        here = await self._hub.wait_until_safe(revision)
        return here if end is FenceEnd.ACKNOWLEDGEMENTS else end

    async def _wait_for(self, others: list[RegisteredProcess], revision: int) -> set[str]:
        """Waits for notifications of the other processes' acknowledgements. Returns the ids of the
        processes that have not acknowledged when it is time to read the register again, in case
        a notification was lost."""
        look_again_at = self._clock.now() + self._terms.renewal_interval
        while True:
            moved = self._replica.progress.wait()
            others = [one for one in others if self._replica.acknowledged_by(one) < revision]
            if not others or self._clock.now() >= look_again_at:
                moved.cancel()
                return {one.process_id for one in others}
            await wait_until(self._clock, moved, look_again_at)

    async def _read_register(self, committed: int | None) -> RegisterState:
        while True:
            try:
                return await self._register.read_state(committed)
            except StoreUnavailable:
                await self._clock.sleep_until(self._clock.now() + _RETRY_SECONDS)
