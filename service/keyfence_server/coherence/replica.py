"""One server process among several on a store: a holder whose grantor is the store.

It registers, renews every third of a lease, follows the changes, and acknowledges what
it and all holders downstream have applied. It watches the register for processes that do
not renew. Its lease alone decides whether it may answer from memory. Without the feed,
changes and acknowledgements arrive later; nothing becomes unsafe.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import structlog

from keyfence.holder.lease import HolderLease
from keyfence_server.application.ports import Change, Store, StoreUnavailable
from keyfence_server.coherence.applied_revisions import AppliedRevisions
from keyfence_server.coherence.downstream import DownstreamHub
from keyfence_server.coherence.ports import (
    Acknowledged,
    BootClock,
    Committed,
    Feed,
    Notification,
    Register,
    RegisteredProcess,
    StorePosition,
    StruckOff,
    TermsDiffer,
)
from keyfence_server.coherence.progress import NEVER, Progress, wait_until
from keyfence_server.coherence.terms import LeaseTerms

_PAGE: Final = 1000
_RETRY_SECONDS: Final = 0.1
_OWN_LATER_SECONDS: Final = 0.1
"""How much later a process acknowledges what it has committed itself."""

_log = structlog.get_logger("keyfence.coherence")


@dataclass(frozen=True, slots=True)
class SeenProcess:
    """A process on the register, as another one sees it.

    Attributes:
        silent_for: for how many seconds it has not been seen to renew. It is looked at once in
            each interval of renewal, so it may have renewed by so much earlier.
    """

    process: RegisteredProcess
    silent_for: float


ListProcesses = Callable[[], Awaitable[list[SeenProcess]]]


class Replica:
    """This process's place among the others.

    Args:
        on_unavailable: is told each error of the store that has cost a renewal.

    Attributes:
        failed_renewals: how many renewals the store refused or did not answer.
        struck_off: how many silent processes this process has removed from the register.
    """

    def __init__(
        self,
        process_id: str,
        display_name: str,
        *,
        store: Store,
        register: Register,
        feed: Feed,
        revisions: AppliedRevisions,
        hub: DownstreamHub,
        lease: HolderLease,
        terms: LeaseTerms,
        clock: BootClock,
        on_unavailable: Callable[[StoreUnavailable], None],
    ) -> None:
        self.process_id: Final = process_id
        self._display_name = display_name
        self._store = store
        self._register = register
        self._feed = feed
        self._revisions = revisions
        self._hub = hub
        self._lease = lease
        self._terms = terms
        self._clock = clock
        self._on_unavailable = on_unavailable
        self.failed_renewals = 0
        self.struck_off = 0
        self._epoch = ""
        self._registrations = 0
        self._unsettled_since: float | None = None
        self._acknowledged_by: dict[str, int] = {}
        self._silent_since: dict[tuple[str, int], float] = {}
        self._own: set[int] = set()
        self._catching_up = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self.progress = Progress()
        self.lease_moved: Final = Progress()

    async def start(self) -> None:
        """Registers, and begins to follow. Raises `TermsDiffer`, `StoreUnavailable`."""
        try:
            await self._join()
        except TermsDiffer as differ:
            await self._outlast(differ.processes)
            await self._join()
        for loop in (self._renew, self._follow, self._acknowledge, self._watch):
            self._tasks.append(asyncio.create_task(self._forever(loop), name=loop.__name__))

    async def stop(self) -> None:
        """Gives up the lease, and then leaves the register: last, when every lease that was granted
        here has expired, because no fence waits for those leases after that."""
        self._hub.close_all()
        await self._hub.wait_lost()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._lease.abandon()
        try:
            await self._register.leave(self.process_id)
        except StoreUnavailable:
            _log.warning("deregistration_failed", process_id=self.process_id)

    @property
    def applied(self) -> int:
        """The revision up to which this process has applied every change."""
        return self._revisions.applied

    def may_trust(self, position: StorePosition) -> bool:
        """Whether acknowledgements count where the store stands now."""
        return position.is_settled and position.epoch == self._epoch

    def has_lease(self) -> bool:
        """Whether this process has a lease at this moment, and so is on the register."""
        return self._lease.is_live(self._clock.now())

    def acknowledged_by(self, process: RegisteredProcess) -> int:
        """The revision up to which another process has acknowledged, as far as is known."""
        return max(process.acknowledged, self._acknowledged_by.get(process.process_id, 0))

    async def list_processes(self) -> list[SeenProcess]:
        """The registered processes, this one included. Raises `StoreUnavailable`."""
        processes = await self._register.list_processes()
        now = self._clock.now()
        return [
            SeenProcess(one, now - self._silent_since.get((one.process_id, one.renewals), now))
            for one in processes
        ]

    def apply(self, revision: int, changes: Sequence[Change]) -> None:
        """Applies a revision that this process has learnt of."""
        self._revisions.apply(revision, changes)
        self._lease.advance_to(self._revisions.applied)
        self.lease_moved.announce()

    async def catch_up(self) -> None:
        """Reads what is missing from the change log. Raises `StoreUnavailable`."""
        async with self._catching_up:
            limit = _PAGE
            while True:
                registration, after = self._registrations, self._revisions.applied
                async with self._store.snapshot() as snapshot:
                    found = await snapshot.list_changes(after=after, limit=limit)
                if registration != self._registrations:
                    # The reading may be of an epoch that has ended meanwhile.
                    continue
                if found and found[0][0] > after + 1:
                    # Only a process that is no longer registered can have missed what was
                    # removed. It has no lease, and registers anew with an empty memory.
                    raise StoreUnavailable(f"the changes behind revision {after} were removed")
                revisions = {revision for revision, _ in found}
                if len(found) >= limit and len(revisions) == 1:
                    # The revision may have more changes. Half a revision must not be applied.
                    limit *= 2
                    continue
                for revision, group in itertools.groupby(found, key=lambda one: one[0]):
                    self.apply(revision, [change for _, change in group])
                if snapshot.revision <= self._revisions.applied or not found:
                    return

    async def _join(self) -> None:
        """Registers anew, with an empty memory."""
        self._lease.abandon()
        nonce = self._lease.request(self._clock.now())
        position = await self._register.join(self.process_id, self._display_name, self._terms)
        self._registrations += 1
        if self._epoch not in ("", position.epoch):
            _log.warning("store_failed_over", before=self._epoch, after=position.epoch)
            self._warn_of_lost_changes(position)
        if self._epoch != position.epoch:
            self._acknowledged_by.clear()
            self._unsettled_since = None
        self._epoch = position.epoch
        self._granted(nonce, position)

    def _warn_of_lost_changes(self, position: StorePosition) -> None:
        """Says so if the store that took over lacks changes that this process has applied."""
        if position.head < self._revisions.applied:
            _log.error(
                "changes_lost_in_failover",
                revision=position.head,
                revision_before=self._revisions.applied,
                consequence="changes that were acknowledged are undone, revocations included",
                advice="make them again: `keyfence audit restrictive-changes` lists them from the "
                "old primary, or from a copy of its audit log",
            )

    async def _outlast(self, others: Sequence[RegisteredProcess]) -> None:
        """Strikes off the processes whose terms differ, if they do not renew for a whole W. They
        have ended then, and no other process may be there to strike them off."""
        terms = self._terms.outlasting(one.terms for one in others)
        _log.info("waiting_for_others", processes=[one.process_id for one in others])
        await self._clock.sleep_until(self._clock.now() + terms.wait)
        for one in others:
            await self._register.strike_off(one.process_id, one.renewals)

    async def _renew(self) -> None:
        """Renews for ever: the lease is counted from before the renewal was sent."""
        next_at = self._clock.now()
        while True:
            next_at = max(next_at + self._terms.renewal_interval, self._clock.now())
            await self._clock.sleep_until(next_at)
            nonce = self._lease.request(self._clock.now())
            try:
                position = await self._register.renew(
                    self.process_id, self._hub.safe_revision(), self._epoch
                )
            except StoreUnavailable as error:
                self.failed_renewals += 1
                self._on_unavailable(error)
                raise
            except StruckOff:
                self.failed_renewals += 1
                _log.warning("struck_off", process_id=self.process_id)
                try:
                    await self._join()
                except TermsDiffer as differ:
                    _log.error("lease_terms_refused", why=str(differ))
                    continue
                await self.catch_up()
                continue
            self._granted(nonce, position)
            if position.head > self._revisions.applied:
                await self.catch_up()

    def _granted(self, nonce: int, position: StorePosition) -> None:
        must_forget = self._lease.grant(nonce, self._terms.length, position.head, position.epoch)
        if must_forget:
            # Nothing is awaited between the grant and this, so nothing is answered either.
            self._revisions.restart(position.head, position.epoch)
        self.lease_moved.announce()
        if position.is_settled:
            self._unsettled_since = None
        elif self._unsettled_since is None:
            self._unsettled_since = self._clock.now()

    async def _follow(self) -> None:
        """Applies notifications. Where one may be missing, it reads the change log."""
        async with aclosing(self._feed.listen()) as notifications:
            await self._take_in(notifications)

    async def _take_in(self, notifications: AsyncIterator[Notification]) -> None:
        async for notification in notifications:
            match notification:
                case Acknowledged(epoch=epoch) | Committed(epoch=epoch) if epoch != self._epoch:
                    # The revisions of another epoch are others.
                    pass
                case Acknowledged():
                    known = self._acknowledged_by.get(notification.process_id, 0)
                    self._acknowledged_by[notification.process_id] = max(
                        known, notification.revision
                    )
                    self.progress.announce()
                case Committed(changes=changes) if changes is not None:
                    self.apply(notification.revision, changes)
                    if self._revisions.applied < notification.revision:
                        await self.catch_up()
                case _:
                    await self.catch_up()

    def note_own(self, revisions: Sequence[int]) -> None:
        """Records revisions that this process has committed and waits for itself. Other processes
        can wait for no acknowledgement of them, except where a call is repeated."""
        self._own.update(revisions)

    async def _acknowledge(self) -> None:
        """Publishes the revision that this process and all holders downstream of it have
        acknowledged: revisions of its own a little later, and several together."""
        told = (self._registrations, 0)
        due_at = NEVER
        while True:
            moved = self._hub.moved_or_run_out(self._revisions.applied)
            registration, safe = self._registrations, self._hub.safe_revision()
            if registration == told[0] and safe <= told[1]:
                await moved
                continue
            if registration == told[0] and self._own.issuperset(range(told[1] + 1, safe + 1)):
                now = self._clock.now()
                due_at = min(due_at, now + _OWN_LATER_SECONDS)
                if now < due_at:
                    await wait_until(self._clock, moved, due_at)
                    continue
            moved.cancel()
            await self._feed.acknowledge(self.process_id, safe, self._epoch)
            told, due_at = (registration, safe), NEVER
            self._own = {one for one in self._own if one > safe}

    async def _watch(self) -> None:
        """Strikes off processes whose counter has stood still for a whole W."""
        while True:
            processes = await self._register.list_processes()
            # Not from before the question: a renewal can have come in while it was asked.
            now = self._clock.now()
            seen = {(one.process_id, one.renewals): one.terms for one in processes}
            self._silent_since = {
                one: since for one, since in self._silent_since.items() if one in seen
            }
            for one, terms in seen.items():
                since = self._silent_since.setdefault(one, now)
                wait = self._terms.outlasting((terms,)).wait
                if now - since >= wait and one[0] != self.process_id:
                    if await self._register.strike_off(*one):
                        self.struck_off += 1
                        _log.warning("process_struck_off", process_id=one[0])
                    self.progress.announce()
            await self._settle_epoch()
            await self._clock.sleep_until(now + self._terms.renewal_interval)

    async def _settle_epoch(self) -> None:
        """Says when every lease from before the store's present epoch has run out."""
        since, epoch = self._unsettled_since, self._epoch
        if since is not None and self._clock.now() - since >= self._terms.wait:
            await self._register.settle(epoch)

    async def _forever(self, loop: Callable[[], Awaitable[None]]) -> None:
        """Keeps a loop going when the store fails it. The lease runs out by itself."""
        while True:
            try:
                await loop()
            except StoreUnavailable as error:
                _log.debug("store_loop_waits", loop=loop.__name__, error=str(error))
            except Exception:  # noqa: BLE001 - a loop that ends would end the lease for good
                _log.exception("loop_failed", loop=loop.__name__)
            await self._clock.sleep_until(self._clock.now() + _RETRY_SECONDS)
