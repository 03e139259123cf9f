"""One server process among several on a store: a holder whose grantor is the store.

It registers, renews every third of a lease, follows the changes, and acknowledges what
it and everyone downstream of it have applied. It watches the register for processes
that have fallen silent. What it may do from memory is decided by its lease alone: the
feed makes things fast, and nothing worse happens when it stops.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from keyfence._holder.lease import HolderLease
from keyfence_server.application.ports import Change, Store, StoreUnavailable
from keyfence_server.coherence.downstream import DownstreamHub
from keyfence_server.coherence.ledger import Ledger
from keyfence_server.coherence.ports import (
    Acknowledged,
    BootClock,
    Committed,
    Feed,
    Register,
    RegisteredProcess,
    Standing,
    StruckOff,
)
from keyfence_server.coherence.progress import Progress
from keyfence_server.coherence.terms import LeaseTerms

_PAGE: Final = 1000
_RETRY_SECONDS: Final = 0.1

_log = structlog.get_logger("keyfence.coherence")


class Replica:
    """This process's place among the others."""

    def __init__(
        self,
        process_id: str,
        display_name: str,
        *,
        store: Store,
        register: Register,
        feed: Feed,
        ledger: Ledger,
        hub: DownstreamHub,
        lease: HolderLease,
        terms: LeaseTerms,
        clock: BootClock,
    ) -> None:
        self.process_id: Final = process_id
        self._display_name = display_name
        self._store = store
        self._register = register
        self._feed = feed
        self._ledger = ledger
        self._hub = hub
        self._lease = lease
        self._terms = terms
        self._clock = clock
        self._epoch: str | None = None
        self._acknowledged_by: dict[str, int] = {}
        self._silent_since: dict[tuple[str, int], float] = {}
        self._catching_up = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self.acknowledgements_count_from = float("-inf")
        """Until then, by this process's clock, no acknowledgement shortens a fence: the
        store has failed over, and what was acknowledged to its former self means nothing."""
        self.progress = Progress()

    async def start(self) -> None:
        """Registers, and begins to follow. Raises `StoreUnavailable`."""
        await self._join()
        for loop in (self._renew, self._follow, self._acknowledge, self._watch):
            self._tasks.append(asyncio.create_task(self._forever(loop), name=loop.__name__))

    async def stop(self) -> None:
        """Gives up the lease, and then the place on the register."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._lease.abandon()
        try:
            await self._register.leave(self.process_id)
        except StoreUnavailable:
            _log.warning("left_without_saying_so", process_id=self.process_id)

    def acknowledged_by(self, process: RegisteredProcess) -> int:
        """The revision up to which another process has acknowledged, as far as is known."""
        return max(process.acknowledged, self._acknowledged_by.get(process.process_id, 0))

    def take(self, revision: int, changes: Sequence[Change]) -> None:
        """Applies a revision that this process has learnt of."""
        self._ledger.take(revision, changes)
        self._lease.advance_to(self._ledger.applied)

    async def catch_up(self) -> None:
        """Reads what is missing from the change log. Raises `StoreUnavailable`."""
        async with self._catching_up:
            more = True
            while more:
                async with self._store.snapshot() as snapshot:
                    found = await snapshot.list_changes(after=self._ledger.applied, limit=_PAGE)
                for revision, group in itertools.groupby(found, key=lambda one: one[0]):
                    self.take(revision, [change for _, change in group])
                more = len(found) >= _PAGE

    async def _join(self) -> None:
        self._lease.abandon()
        nonce = self._lease.request(self._clock.now())
        self._granted(
            nonce, await self._register.join(self.process_id, self._display_name), self._terms
        )

    async def _renew(self) -> None:
        """Renews for ever: the lease is counted from before the renewal was sent."""
        next_at = self._clock.now()
        while True:
            next_at = max(next_at + self._terms.renewal_interval, self._clock.now())
            await self._clock.sleep_until(next_at)
            nonce = self._lease.request(self._clock.now())
            try:
                standing = await self._register.renew(self.process_id, self._hub.settled())
            except StruckOff:
                _log.warning("struck_off", process_id=self.process_id)
                await self._join()
                continue
            self._granted(nonce, standing, self._terms)
            if standing.head > self._ledger.applied:
                await self.catch_up()

    def _granted(self, nonce: int, standing: Standing, terms: LeaseTerms) -> None:
        must_forget = self._lease.grant(nonce, terms.length, standing.head, standing.epoch)
        if must_forget:
            # Nothing is awaited between the grant and this, so nothing is answered either.
            self._ledger.restart(standing.head, standing.epoch)
        if self._epoch not in (None, standing.epoch):
            _log.warning("store_failed_over", before=self._epoch, after=standing.epoch)
            self.acknowledgements_count_from = self._clock.now() + terms.wait
            self._acknowledged_by.clear()
        self._epoch = standing.epoch

    async def _follow(self) -> None:
        """Takes in the news. Where some may be missing, it reads the change log."""
        async for news in self._feed.listen():
            match news:
                case Acknowledged():
                    known = self._acknowledged_by.get(news.process_id, 0)
                    self._acknowledged_by[news.process_id] = max(known, news.revision)
                    self.progress.announce()
                case Committed(changes=changes) if changes is not None:
                    self.take(news.revision, changes)
                    if self._ledger.applied < news.revision:
                        await self.catch_up()
                case _:
                    await self.catch_up()

    async def _acknowledge(self) -> None:
        """Tells the others how far this process, and all downstream of it, have come."""
        told = 0
        while True:
            moved = self._hub.moved_or_run_out(self._ledger.applied)
            settled = self._hub.settled()
            if settled > told:
                moved.cancel()
                await self._feed.acknowledge(self.process_id, settled)
                told = settled
            else:
                await moved

    async def _watch(self) -> None:
        """Strikes off processes whose counter has stood still for a whole W."""
        while True:
            now = self._clock.now()
            processes = await self._register.list_processes()
            seen = {(one.process_id, one.renewals) for one in processes}
            self._silent_since = {
                one: since for one, since in self._silent_since.items() if one in seen
            }
            for one in seen:
                since = self._silent_since.setdefault(one, now)
                if now - since >= self._terms.wait and one[0] != self.process_id:
                    if await self._register.strike_off(*one):
                        _log.warning("process_struck_off", process_id=one[0])
                    self.progress.announce()
            await self._clock.sleep_until(now + self._terms.renewal_interval)

    async def _forever(self, loop: Callable[[], Awaitable[None]]) -> None:
        """Keeps a loop going when the store fails it. The lease runs out by itself."""
        while True:
            try:
                await loop()
            except StoreUnavailable as error:
                _log.warning("store_unavailable", loop=loop.__name__, error=str(error))
            except Exception:  # noqa: BLE001 - a loop that ends would end the lease for good
                _log.exception("loop_failed", loop=loop.__name__)
            await self._clock.sleep_until(self._clock.now() + _RETRY_SECONDS)
