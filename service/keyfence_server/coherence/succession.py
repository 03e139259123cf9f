"""The single process on a store, and the leases that a previous process granted.

Sidecars and clients can outlive the process that granted their leases, and do not know its
successor. So a process registers in the store before it grants its first lease. A process that
starts and finds an earlier process in the register ends no fence until the leases of that process
have expired (rule I4). A process that grants no lease does not register, and its successor does not
wait for it.
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
    """Keeps a single process from ending a fence while leases of earlier processes can be valid.

    Args:
        process_id: an id that no earlier process has used.
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
        self._expire_at = float("-inf")
        self._striking_off: asyncio.Task[None] | None = None
        self._registering = asyncio.Lock()
        self._is_registered = False

    async def start(self) -> None:
        """Reads which processes were registered before. Must return before the first mutation.
        Raises `StoreUnavailable`."""
        found = await self._register.list_processes()
        if found:
            wait = self._terms.outlasting(one.terms for one in found).wait
            self._expire_at = self._clock.now() + wait
            names = [one.display_name for one in found]
            _log.info("waiting_for_predecessors", processes=names, seconds=round(wait, 3))
            self._striking_off = asyncio.create_task(self._strike_off(found))

    async def outlast(self) -> bool:
        """Returns when every lease that an earlier process granted has expired. The result says
        whether one could still be valid when this was called."""
        if self._clock.now() >= self._expire_at:
            return False
        await self._clock.sleep_until(self._expire_at)
        return True

    async def register(self) -> None:
        """Registers this process, once. Must return before the first lease is granted. Raises
        `StoreUnavailable`."""
        if self._is_registered:
            return
        async with self._registering:
            while not self._is_registered:
                try:
                    await self._register.join(self._process_id, self._display_name, self._terms)
                    self._is_registered = True
                except TermsDiffer:
                    # The registered processes have ended, and are about to be struck off.
                    if self._striking_off is None or self._striking_off.done():
                        raise
                    await asyncio.shield(self._striking_off)

    async def stop(self) -> None:
        """Leaves the register if every lease that was granted here has expired. Otherwise the entry
        stays, and the next process waits instead of this one."""
        if self._striking_off is not None:
            self._striking_off.cancel()
            await asyncio.wait({self._striking_off})
        self._hub.close_all()
        if self._is_registered and self._hub.grantor.safe_from(EVERYTHING) <= self._clock.now():
            try:
                await self._register.leave(self._process_id)
            except StoreUnavailable:
                _log.warning("deregistration_failed", process_id=self._process_id)

    async def _strike_off(self, found: list[RegisteredProcess]) -> None:
        """Strikes the earlier processes off the register once their leases have expired."""
        await self.outlast()
        left = list(found)
        while left:
            try:
                await self._register.strike_off(left[-1].process_id, left[-1].renewals)
                left.pop()
            except StoreUnavailable as error:
                _log.debug("store_loop_waits", loop="strike_off", error=str(error))
                await self._clock.sleep_until(self._clock.now() + _RETRY_SECONDS)
