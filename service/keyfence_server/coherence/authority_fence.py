"""The fence among several processes on a store.

A mutation holds everywhere when every registered process has acknowledged it, for itself
and for everyone downstream of it, or when W has passed since the commit returned, by
this process's own clock: by then every lease from before the commit has run out, whoever
held it (rule I4). Acknowledgements only make it quick, and only on a timeline of the
store on which they can be trusted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import structlog

from keyfence_server.application.ports import Change, FenceEnd, StoreUnavailable
from keyfence_server.coherence.downstream import DownstreamHub, wait_until
from keyfence_server.coherence.ports import BootClock, Register, RegisteredProcess, Roll
from keyfence_server.coherence.replica import Replica
from keyfence_server.coherence.terms import LeaseTerms

_RETRY_SECONDS: Final = 0.1

_log = structlog.get_logger("keyfence.coherence")


class _Bound:
    """When every lease from before a commit has run out.

    All who are registered have the same terms. So W is known to whoever has had a lease since
    the commit, being registered itself, and to whoever has read the register since. A process
    that was struck off unawares knows nothing of those who came after it.
    """

    def __init__(self, committed_by: float, terms: LeaseTerms, *, is_certain: bool) -> None:
        self._committed_by = committed_by
        self._terms = terms
        self.is_certain = is_certain

    @property
    def everyone_has_lost(self) -> float:
        """By the clock that the commit's moment was read from."""
        return self._committed_by + self._terms.wait

    def take(self, roll: Roll) -> None:
        """Takes note of the register, as it was after the commit."""
        self._terms = self._terms.outlasting(one.terms for one in roll.processes)
        self.is_certain = True


class AuthorityFence:
    """Implements the port `Fence` for one of several processes."""

    def __init__(
        self,
        replica: Replica,
        register: Register,
        hub: DownstreamHub,
        terms: LeaseTerms,
        clock: BootClock,
    ) -> None:
        self._replica = replica
        self._register = register
        self._hub = hub
        self._terms = terms
        self._clock = clock

    async def wait(self, revision: int, changes: Sequence[Change]) -> FenceEnd:
        """Returns when no holder answers from before the revision any more, after W at the
        latest."""
        # This process too learns of the changes from the feed or the change log: what the
        # store has lost in a failover meanwhile must not be taken for a part of it.
        bound = _Bound(self._clock.now(), self._terms, is_certain=self._replica.has_lease())
        settled = asyncio.ensure_future(self._settled(revision, bound))
        timer = asyncio.ensure_future(self._outlast(bound))
        try:
            await asyncio.wait((settled, timer), return_when=asyncio.FIRST_COMPLETED)
            if settled.done() and settled.exception() is not None:
                # What went wrong says nothing about the others, so they are waited out.
                _log.error("fence_by_time_only", revision=revision, exc_info=settled.exception())
            elif settled.done() and (end := settled.result()) is not None:
                return end
            await timer
            return FenceEnd.TIME
        finally:
            timer.cancel()
            settled.cancel()

    async def settle(self, revision: int) -> FenceEnd:
        """Returns when everything up to the revision holds everywhere. Whoever committed
        it may have fallen before its fence was up, so nothing is assumed of when that
        was: W counts from now. Nor of whether it waited for the store's standby: a commit
        that was given up before can be read, and be lost in a failover."""
        await self._register.confirm()
        return await self.wait(revision, ())

    async def forget_everything(self) -> None:
        """A commit may have taken effect without our learning of it. The change log says
        so before the next lease counts; until then the present lease is as good as ever,
        since nobody was told that the mutation holds."""

    async def _outlast(self, bound: _Bound) -> None:
        """Returns when time alone ends the fence."""
        while not bound.is_certain and not self._replica.has_lease():
            await self._clock.sleep_until(self._clock.now() + _RETRY_SECONDS)
        while self._clock.now() < bound.everyone_has_lost:
            await self._clock.sleep_until(bound.everyone_has_lost)

    async def _settled(self, revision: int, bound: _Bound) -> FenceEnd | None:
        """Returns when everyone has acknowledged, here and elsewhere, or is known to be lost;
        None if no acknowledgement counts now."""
        owing: set[str] | None = None
        end = FenceEnd.ACKNOWLEDGEMENTS
        while owing is None or owing:
            # Read after the commit. Who has registered since was given a head that is as
            # new, and who is gone from the register has lost or given up its lease.
            roll = await self._read_roll()
            bound.take(roll)
            if not self._replica.may_trust(roll.standing):
                return None
            if owing and not owing.issubset(one.process_id for one in roll.processes):
                end = FenceEnd.TIME
            others = [
                one
                for one in roll.processes
                if one.process_id != self._replica.process_id
                and (owing is None or one.process_id in owing)
            ]
            owing = await self._wait_for(others, revision)
        if self._replica.applied < revision:
            with suppress(StoreUnavailable):
                await self._replica.catch_up()
        here = await self._hub.wait_settled(revision)
        return here if end is FenceEnd.ACKNOWLEDGEMENTS else end

    async def _wait_for(self, others: list[RegisteredProcess], revision: int) -> set[str]:
        """Waits for news of the others' acknowledgements. Returns who still owes one when the
        register must be read again, in case the news was lost."""
        look_again_at = self._clock.now() + self._terms.renewal_interval
        while True:
            moved = self._replica.progress.wait()
            others = [one for one in others if self._replica.acknowledged_by(one) < revision]
            if not others or self._clock.now() >= look_again_at:
                moved.cancel()
                return {one.process_id for one in others}
            await wait_until(self._clock, moved, look_again_at)

    async def _read_roll(self) -> Roll:
        while True:
            try:
                return await self._register.read_roll()
            except StoreUnavailable:
                await self._clock.sleep_until(self._clock.now() + _RETRY_SECONDS)
