"""The holders downstream of this process: what is sent to them, and waiting for them.

`Grantor` decides; this moves messages. Each holder has a queue, which its stream
empties. A holder that is too slow to take its changes is cut off: it loses its lease in
its own time, and comes back with an empty memory.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from keyfence_server.application.ports import Change, FenceEnd
from keyfence_server.coherence.grantor import Downstream, Granted, Grantor
from keyfence_server.coherence.ports import BootClock
from keyfence_server.coherence.progress import Progress

MAX_QUEUED: Final = 10_000
NEVER: Final = float("inf")
EVERYTHING: Final = sys.maxsize


@dataclass(frozen=True, slots=True)
class LeaseToSend:
    """A lease for a holder, in answer to its renewal."""

    nonce: int
    granted: Granted
    epoch: str


@dataclass(frozen=True, slots=True)
class ChangesToSend:
    """A revision's changes for a holder."""

    revision: int
    changes: tuple[Change, ...]


def _nobody_s_business(_change: Change) -> bool:
    return False


class StreamEnded(Exception):
    """The grantor ends the stream: the holder must start anew."""


class HolderStream:
    """One holder's stream, from the grantor's side."""

    def __init__(
        self, hub: DownstreamHub, holder: Downstream, is_concerned_by: Callable[[Change], bool]
    ) -> None:
        self.holder: Final = holder
        self.is_concerned_by: Final = is_concerned_by
        self._hub = hub
        self._queue: asyncio.Queue[LeaseToSend | ChangesToSend | None] = asyncio.Queue()

    def renew(self, nonce: int, applied: int) -> None:
        """Takes a `Renew` in: an acknowledgement, and, with a nonce, a request for a lease."""
        self._hub.take_renewal(self, nonce, applied)

    async def next_message(self) -> LeaseToSend | ChangesToSend:
        """What to send next. Raises `StreamEnded`."""
        message = await self._queue.get()
        if message is None:
            raise StreamEnded
        return message

    def put(self, message: LeaseToSend | ChangesToSend) -> None:
        """Queues a message, in order. A holder with too many of them is cut off."""
        if self._queue.qsize() >= MAX_QUEUED:
            self.end()
        else:
            self._queue.put_nowait(message)

    def end(self) -> None:
        """Makes the stream end, from this side."""
        self._hub.close(self)
        self._queue.put_nowait(None)

    def close(self) -> None:
        """Says that the stream has ended, from the other side."""
        self._hub.close(self)


class DownstreamHub:
    """All holders downstream of this process."""

    def __init__(
        self, grantor: Grantor, clock: BootClock, own_lease_ends: Callable[[], float]
    ) -> None:
        self._grantor = grantor
        self._clock = clock
        self._own_lease_ends = own_lease_ends
        self._streams: dict[HolderStream, None] = {}
        self._is_shut = False
        self.epoch = ""
        self.progress = Progress()

    @property
    def grantor(self) -> Grantor:
        """Who decides."""
        return self._grantor

    def open(
        self, holder_id: str, is_concerned_by: Callable[[Change], bool] = _nobody_s_business
    ) -> HolderStream:
        """Takes in a holder that remembers nothing and has given up all earlier leases.

        Args:
            is_concerned_by: whether a change may take away what the holder was let in for.
        """
        stream = HolderStream(self, self._grantor.join(holder_id), is_concerned_by)
        self._streams[stream] = None
        if self._is_shut:
            stream.end()
        return stream

    def close(self, stream: HolderStream) -> None:
        """Lets a holder go. Its lease may last a little longer."""
        self._streams.pop(stream, None)
        self._grantor.leave(stream.holder)

    def push(self, revision: int, changes: Sequence[Change]) -> None:
        """Puts a revision on the way to everyone. Revisions come in order, without gaps.

        A holder whose own credential it is about does not get to acknowledge it. Its stream
        ends, and its lease with it or in its own time; until then the fence waits. If the
        credential is still good for it, it comes back.
        """
        message = ChangesToSend(revision, tuple(changes))
        for stream in tuple(self._streams):
            if any(map(stream.is_concerned_by, changes)):
                stream.end()
            else:
                stream.put(message)
        self._grantor.advance(revision)
        self.progress.announce()

    def restart(self, head: int, epoch: str) -> None:
        """Goes on from another head: every holder must start anew, so every stream ends."""
        self.close_all()
        self.epoch = epoch
        self._grantor.restart(head)
        self.progress.announce()

    def shut(self) -> None:
        """Ends every stream, and those that are opened from now on: the process is about to
        stop."""
        self._is_shut = True
        self.close_all()

    def close_all(self) -> None:
        """Ends every stream, from this side."""
        for stream in tuple(self._streams):
            stream.end()

    def take_renewal(self, stream: HolderStream, nonce: int, applied: int) -> None:
        """See `HolderStream.renew`."""
        if stream not in self._streams:
            # What comes after the end may be about revisions that there are no more.
            return
        if self._grantor.acknowledge(stream.holder, applied):
            self.progress.announce()
        if nonce:
            now = self._clock.now()
            granted = self._grantor.renew(stream.holder, now, self._own_lease_ends() - now)
            stream.put(LeaseToSend(nonce, granted, self.epoch))

    def settled(self) -> int:
        """The revision that this process may acknowledge for all who are downstream of it."""
        return self._grantor.settled(self._clock.now())

    def moved_or_run_out(self, revision: int) -> asyncio.Future[None]:
        """Done when something has moved on, or when the leases of those who have not
        acknowledged the revision have run out."""
        moved = self.progress.wait()
        ends = self._grantor.settles_by(revision)
        when = ends if ends > self._clock.now() else NEVER
        return asyncio.ensure_future(wait_until(self._clock, moved, when))

    async def wait_lost(self) -> None:
        """Returns when every lease that was granted here has run out. Called when no more
        are granted."""
        while (ends := self._grantor.settles_by(EVERYTHING)) > self._clock.now():
            await self._clock.sleep_until(ends)

    async def wait_settled(self, revision: int) -> FenceEnd:
        """Returns when nobody downstream can answer from before the revision any more: by
        their acknowledgements, or because their leases have run out."""
        owing = self._grantor.owing(revision, self._clock.now())
        while True:
            moved = self.moved_or_run_out(revision)
            if self.settled() >= revision:
                moved.cancel()
                all_said_so = all(one.acknowledged >= revision for one in owing)
                return FenceEnd.ACKNOWLEDGEMENTS if all_said_so else FenceEnd.TIME
            await moved


async def wait_until(clock: BootClock, moved: asyncio.Future[None], when: float) -> None:
    """Returns when something has moved, or at `when`, whichever comes first."""
    if when == NEVER:
        await moved
        return
    timer = asyncio.ensure_future(clock.sleep_until(when))
    try:
        await asyncio.wait((moved, timer), return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
