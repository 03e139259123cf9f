"""The caches that a fake has granted leases to, and its revisions."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from keyfence.v1 import replication_service_pb2 as replication

EPOCH: Final = "1"
_LEASE_SECONDS: Final = 2.0

_Outgoing: TypeAlias = "queue.SimpleQueue[replication.SyncResponse | None]"


@dataclass(slots=True, eq=False)
class Holder:
    """A cache that may answer from memory.

    Attributes:
        until: when its lease ends, by the monotonic clock.
        outgoing: what is to be sent to it. None ends the stream.
    """

    outgoing: _Outgoing = field(default_factory=queue.SimpleQueue)
    acknowledged: int = 0
    until: float = 0.0
    has_left: bool = False


class Holders:
    """Grants leases, and makes revisions that wait for those who hold one.

    Args:
        lock: the fake's.

    Attributes:
        revision: the last one.
    """

    def __init__(self, lock: threading.Condition, revision: int) -> None:
        self.revision = revision
        self._changed = lock
        self._holders: set[Holder] = set()

    def join(self) -> Holder:
        """A new holder, which has no lease yet."""
        holder = Holder()
        with self._changed:
            self._holders.add(holder)
        return holder

    def hear(self, holder: Holder, message: replication.SyncRequest) -> None:
        """Reads a message of a holder."""
        with self._changed:
            match message.WhichOneof("message"):
                case "given_up":
                    self._holders.discard(holder)
                case "renew":
                    renew = message.renew
                    holder.acknowledged = max(holder.acknowledged, renew.applied_revision)
                    if renew.nonce:
                        holder.until = time.monotonic() + _LEASE_SECONDS
                        holder.outgoing.put(self._lease(renew.nonce))
            self._changed.notify_all()

    def leave(self, holder: Holder) -> None:
        """The holder's stream has ended. The holder may answer until its lease ends, and until then
        changes wait for it."""
        with self._changed:
            holder.has_left = True
            holder.outgoing.put(None)

    def _lease(self, nonce: int) -> replication.SyncResponse:
        lease = replication.Lease(nonce=nonce, head_revision=self.revision, epoch=EPOCH)
        lease.ttl.FromNanoseconds(int(_LEASE_SECONDS * 1e9))
        return replication.SyncResponse(lease=lease)

    def commit(self, change: replication.SubjectChange) -> int:
        """Makes a revision, and returns it when every holder has acknowledged it or has no lease
        any more. The lock is free meanwhile."""
        self.revision += 1
        revision = self.revision
        told = replication.SyncResponse(
            changes=replication.RevisionChanges(revision=revision, changes=[change])
        )
        now = time.monotonic()
        self._holders = {one for one in self._holders if not one.has_left or one.until > now}
        waiting = list(self._holders)
        for holder in waiting:
            holder.outgoing.put(told)
        while left := self._lease_left(waiting, revision):
            self._changed.wait(left)
        return revision

    def _lease_left(self, holders: Iterable[Holder], revision: int) -> float:
        """How long a holder without the revision may go on to answer; 0 if none may."""
        now = time.monotonic()
        return max(
            (
                one.until - now
                for one in holders
                if one in self._holders and one.acknowledged < revision and one.until > now
            ),
            default=0.0,
        )
