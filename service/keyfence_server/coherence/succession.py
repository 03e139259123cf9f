"""Who was the only process on a store before this one, and who will be after it.

Sidecars and clients can outlive the process that granted them their leases, and know
nothing of the one that comes after it. So a process registers in the store before it
grants anything, and one that finds somebody on the register when it starts says of no
mutation that it holds until their leases have run out (rule I4). Whoever grants nothing
writes nothing, and is not waited for.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from keyfence_server.application.ports import StoreUnavailable
from keyfence_server.coherence.downstream import EVERYTHING, DownstreamHub
from keyfence_server.coherence.ports import BootClock, Register, RegisteredProcess, TermsDiffer
from keyfence_server.coherence.terms import LeaseTerms

_RETRY_SECONDS: Final = 1.0

_log = structlog.get_logger("keyfence.coherence")


class Succession:
    """A sole process's place after those that were there before.

    Args:
        process_id: never used before.
    """

    def __init__(
        self,
        process_id: str,
        display_name: str,
        *,
        register: Register,
        hub: DownstreamHub,
        terms: LeaseTerms,
        clock: BootClock,
    ) -> None:
        self._process_id = process_id
        self._display_name = display_name
        self._register = register
        self._hub = hub
        self._terms = terms
        self._clock = clock
        self._are_lost_at = float("-inf")
        self._striking_off: asyncio.Task[None] | None = None
        self._registering = asyncio.Lock()
        self._is_registered = False

    async def start(self) -> None:
        """Looks who was here before. Nothing may be mutated earlier. Raises
        `StoreUnavailable`."""
        found = await self._register.list_processes()
        if found:
            wait = self._terms.outlasting(one.terms for one in found).wait
            self._are_lost_at = self._clock.now() + wait
            names = [one.display_name for one in found]
            _log.info("waiting_out_predecessors", processes=names, seconds=round(wait, 3))
            self._striking_off = asyncio.create_task(self._strike_off(found))

    async def outlast(self) -> bool:
        """Returns when no lease from before this process can be alive. Says whether one
        could be when it was asked."""
        if self._clock.now() >= self._are_lost_at:
            return False
        await self._clock.sleep_until(self._are_lost_at)
        return True

    @property
    def is_over(self) -> bool:
        """Whether no lease from before this process can be alive."""
        return self._clock.now() >= self._are_lost_at

    async def register(self) -> None:
        """Registers this process, once. Nothing may be granted before it returns. Raises
        `StoreUnavailable`."""
        if self._is_registered:
            return
        async with self._registering:
            while not self._is_registered:
                try:
                    await self._register.join(self._process_id, self._display_name, self._terms)
                    self._is_registered = True
                except TermsDiffer:
                    # Whoever is on the register is dead, and is about to be struck off.
                    if self._striking_off is None or self._striking_off.done():
                        raise
                    await asyncio.shield(self._striking_off)

    async def stop(self) -> None:
        """Leaves the register if nothing that was granted here can be alive. Else the next
        process waits for it, so that this one need not."""
        if self._striking_off is not None:
            self._striking_off.cancel()
            await asyncio.wait({self._striking_off})
        self._hub.close_all()
        if self._is_registered and self._hub.grantor.settles_by(EVERYTHING) <= self._clock.now():
            try:
                await self._register.leave(self._process_id)
            except StoreUnavailable:
                _log.warning("left_without_saying_so", process_id=self._process_id)

    async def _strike_off(self, found: list[RegisteredProcess]) -> None:
        """Takes those who were here before off the register, when they are waited out."""
        await self.outlast()
        left = list(found)
        while left:
            try:
                await self._register.strike_off(left[-1].process_id, left[-1].renewals)
                left.pop()
            except StoreUnavailable as error:
                _log.debug("store_loop_waits", loop="strike_off", error=str(error))
                await self._clock.sleep_until(self._clock.now() + _RETRY_SECONDS)
