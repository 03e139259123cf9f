"""The holders downstream of this process: the messages to them, and waits for them.

`Grantor` decides; this moves messages. Each holder has a queue, which its stream
empties. A holder that is too slow to take its changes is cut off: it loses its lease in
its own time, and comes back with an empty memory.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from keyfence_server.application.ports import Change, FenceEnd
from keyfence_server.coherence.grantor import Granted, Grantor, HolderRecord
from keyfence_server.coherence.ports import BootClock
from keyfence_server.coherence.progress import NEVER, Progress, wait_until

MAX_QUEUED: Final = 10_000
# The most changes in one message to a holder.
MAX_TOGETHER: Final = 1_000
EVERYTHING: Final = sys.maxsize


@dataclass(frozen=True, slots=True)
class LeaseToSend:
    """A lease for a holder, in answer to its renewal."""

    nonce: int
    granted: Granted
    epoch: str


@dataclass(frozen=True, slots=True)
class ChangesToSend:
    """The changes of the revisions from `first` to `revision` for a holder."""

    first: int
    revision: int
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class EndToSend:
    """Asks the holder to give everything up, and to confirm that."""


ToSend: TypeAlias = LeaseToSend | ChangesToSend | EndToSend


class EndReason(Enum):
    """Why a grantor ends a stream."""

    START_ANEW = "start anew"
    """The grantor continues from another head, or stops, or the holder's credential has changed."""
    TOO_SLOW = "too slow"
    """The holder does not read the messages to it."""
    BEHIND = "behind"
    """The holder has left a revision unacknowledged for too long, or the holders of its
    credential have delayed mutations for too long in all (rule I8)."""


class StreamEnded(Exception):
    """The grantor has ended the stream. The holder must start anew."""

    def __init__(self, reason: EndReason) -> None:
        super().__init__(reason.value)
        self.reason: Final = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The terms on which a holder is let in.

    Attributes:
        credential: the id of its credential.
        is_concerned_by: whether a change could affect the holder's credential.
        credential_lasts: how long its credential is still valid, in seconds; infinity
            for one that does not expire.
    """

    credential: str = ""
    is_concerned_by: Callable[[Change], bool] = lambda _: False
    credential_lasts: Callable[[], float] = lambda: NEVER


class HolderStream:
    """The grantor's side of one holder's stream."""

    def __init__(self, hub: DownstreamHub, holder: HolderRecord, admission: Admission) -> None:
        self.holder: Final = holder
        self.admission: Final = admission
        self._hub = hub
        self._queue: deque[ToSend] = deque()
        self._filled = asyncio.Event()
        self._end: EndReason | None = None
        self._refused_since: float | None = None
        self.is_taken_back = False

    @property
    def has_ended(self) -> bool:
        """Whether the grantor has ended the stream."""
        return self._end is not None

    def renew(self, nonce: int, applied: int) -> None:
        """Handles a `Renew`: an acknowledgement and, with a nonce, a request for a lease."""
        hub, grantor = self._hub, self._hub.grantor
        if self not in hub.streams:
            # A message after the end may be about revisions of an earlier history.
            return
        if self.is_taken_back:
            if nonce:
                grantor.note_request(self.holder)
            return
        now = hub.clock.now()
        if grantor.acknowledge(self.holder, applied, now):
            hub.progress.announce()
        if nonce:
            granted = grantor.renew(self.holder, now, self._lease_for(now))
            self.put(LeaseToSend(nonce, granted, hub.epoch))

    def _lease_for(self, now: float) -> float:
        """How long a lease the holder may have. A holder that may have none (rule I8) is told so
        once, in case it is about to acknowledge; if it still may have none a lease later, its
        stream ends."""
        hub = self._hub
        if hub.grantor.may_renew(self.holder, now):
            self._refused_since = None
            return min(hub.own_lease_ends() - now, self.admission.credential_lasts())
        if self._refused_since is None:
            self._refused_since = now
        elif now - self._refused_since >= hub.grantor.terms.length:
            self.end(EndReason.BEHIND)
        return 0.0

    async def next_message(self) -> ToSend:
        """The next message to send. Changes that wait one behind the other are one message, which
        the holder acknowledges once. Raises `StreamEnded`."""
        while not self._queue:
            if self._end is not None:
                raise StreamEnded(self._end)
            self._filled.clear()
            await self._filled.wait()
        message = self._queue.popleft()
        return self._with_following(message) if isinstance(message, ChangesToSend) else message

    def _with_following(self, message: ChangesToSend) -> ChangesToSend:
        revision, changes = message.revision, list(message.changes)
        while self._queue and isinstance(following := self._queue[0], ChangesToSend):
            if len(changes) + len(following.changes) > MAX_TOGETHER:
                break
            self._queue.popleft()
            revision = following.revision
            changes += following.changes
        return ChangesToSend(message.first, revision, tuple(changes))

    def put(self, message: ToSend) -> None:
        """Queues a message, in order. A holder with too many of them is cut off. Of leases that
        follow one another the last one is enough."""
        last = self._queue[-1] if self._queue else None
        if isinstance(message, LeaseToSend) and isinstance(last, LeaseToSend):
            self._queue[-1] = message
        elif len(self._queue) >= MAX_QUEUED:
            self.end(EndReason.TOO_SLOW)
        else:
            self._queue.append(message)
            self._filled.set()

    def end(self, reason: EndReason = EndReason.START_ANEW) -> None:
        """Ends the stream."""
        self.close()
        if self._end is None:
            self._end = reason
        self._filled.set()

    def take_back(self) -> None:
        """Asks the holder to give everything up. From now on it is granted nothing, and what it
        acknowledges counts for nothing, until it says that it has given up."""
        if not self.is_taken_back:
            self.is_taken_back = True
            self._queue.clear()
            self._queue.append(EndToSend())
            self._filled.set()

    def give_up(self) -> None:
        """Records that the holder has forgotten everything and has no lease any more, nor has any
        holder downstream of it."""
        if self in self._hub.streams:
            self._hub.grantor.give_up(self.holder)
            self.end()
            self._hub.progress.announce()

    def close(self) -> None:
        """Removes the holder, since its stream has ended. Its lease may still be valid."""
        self._hub.streams.pop(self, None)
        self._hub.grantor.leave(self.holder)


class DownstreamHub:
    """All holders downstream of this process.

    Attributes:
        grantor: decides about leases.
        own_lease_ends: when this process's own lease ends.
        streams: of the connected holders, in the order in which they came.
        epoch: of the revisions that are pushed.
        progress: announces what a fence may wait for.
    """

    def __init__(
        self, grantor: Grantor, clock: BootClock, own_lease_ends: Callable[[], float]
    ) -> None:
        self.grantor: Final = grantor
        self.clock: Final = clock
        self.own_lease_ends: Final = own_lease_ends
        self.streams: Final[dict[HolderStream, None]] = {}
        self._is_shut = False
        self.epoch = ""
        self.progress = Progress()

    def open(self, holder_id: str, admission: Admission | None = None) -> HolderStream:
        """Adds a holder with an empty memory, which has given up all earlier leases."""
        admission = admission or Admission()
        holder = self.grantor.join(holder_id, admission.credential)
        stream = HolderStream(self, holder, admission)
        self.streams[stream] = None
        if self._is_shut:
            stream.end()
        return stream

    def push(self, revision: int, changes: Sequence[Change], *, first: int | None = None) -> None:
        """Queues a revision, or several from `first` on, for every holder. Revisions come in order,
        without gaps.

        A holder whose own credential it is about does not get to acknowledge it, since no holder
        checks its own credential. It is asked to give everything up, which takes a round trip;
        from one that does not, its leases expire. If its credential is still good, it comes back.
        """
        message = ChangesToSend(first or revision, revision, tuple(changes))
        for stream in tuple(self.streams):
            if stream.is_taken_back or any(map(stream.admission.is_concerned_by, changes)):
                stream.take_back()
            else:
                stream.put(message)
        self.grantor.advance(revision, self.clock.now())
        self.progress.announce()

    def restart(self, head: int, epoch: str) -> None:
        """Continues from another head: every holder must start anew, so every stream ends."""
        self.close_all()
        if epoch == self.epoch and head >= self.grantor.head:
            # The same history: its acknowledgements and leases still count, so that fences that are
            # under way take no longer.
            self.grantor.advance(head, self.clock.now())
        else:
            self.grantor.restart(head)
        self.epoch = epoch
        self.progress.announce()

    def shut(self) -> None:
        """Ends every stream, and those that are opened from now on: the process is about to
        stop."""
        self._is_shut = True
        self.close_all()

    def close_all(self) -> None:
        """Ends every stream."""
        for stream in tuple(self.streams):
            stream.end()

    def safe_revision(self) -> int:
        """The revision that this process may acknowledge for all holders downstream of it."""
        return self.grantor.safe_revision(self.clock.now())

    def moved_or_run_out(self, revision: int) -> asyncio.Future[None]:
        """Done at the next announcement, or when the leases of all holders that have not
        acknowledged the revision have expired."""
        moved = self.progress.wait()
        ends = self.grantor.safe_from(revision)
        when = ends if ends > self.clock.now() else NEVER
        return asyncio.ensure_future(wait_until(self.clock, moved, when))

    async def wait_lost(self) -> None:
        """Returns when every lease that was granted here has expired. Called when no more are
        granted."""
        while (ends := self.grantor.safe_from(EVERYTHING)) > self.clock.now():
            await self.clock.sleep_until(ends)

    async def wait_until_safe(self, revision: int) -> FenceEnd:
        """Returns when no holder downstream can answer from before the revision any more: by
        acknowledgements, or because leases have expired. Once the revision is applied here,
        that takes no longer than W."""
        while self.grantor.head < revision:
            await self.progress.wait()
        owing = self.grantor.owing(revision, self.clock.now())
        end = FenceEnd.ACKNOWLEDGEMENTS
        while owing:
            # Each holder is checked again only after an announcement.
            holder = owing[-1]
            moved = self.progress.wait()
            ends = holder.safe_from(revision)
            if ends > self.clock.now():
                await wait_until(self.clock, moved, ends)
                continue
            moved.cancel()
            owing.pop()
            if holder.acknowledged < revision:
                end = FenceEnd.TIME
        return end
