"""Applies the changes that the grantor upstream sends, and acknowledges them for all
holders downstream."""

from __future__ import annotations

import asyncio

from keyfence.v1 import replication_service_pb2 as messages
from keyfence_server.coherence.applied_revisions import AppliedRevisions
from keyfence_server.coherence.downstream import DownstreamHub
from keyfence_server.convert.changes import changes_from


class Following:
    """The session's listener: the applied revisions of a sidecar."""

    def __init__(self, revisions: AppliedRevisions, hub: DownstreamHub, own_id: str) -> None:
        self._revisions = revisions
        self._hub = hub
        self._own_id = own_id

    def forget_everything(self, head: int, epoch: str) -> None:
        """See `Listener`."""
        self._revisions.restart(head, f"{self._own_id}/{epoch}")

    def apply(self, changes: messages.RevisionChanges) -> None:
        """See `Listener`."""
        known = changes_from(changes)
        if known is None:
            # What it is about cannot be told, so nothing that is remembered counts.
            self._revisions.restart(changes.revision, self._hub.epoch)
        else:
            first = changes.first_revision or changes.revision
            self._revisions.apply(changes.revision, known, first=first)

    def allow_for(self, drift: float) -> None:
        """See `Listener`."""
        self._hub.grantor.allow_for(drift)

    async def lost(self) -> None:
        """See `Listener`."""
        await self._hub.wait_lost()

    def acknowledged(self) -> int:
        """See `Listener`."""
        return self._hub.safe_revision()

    def moved(self) -> asyncio.Future[None]:
        """See `Listener`."""
        return self._hub.moved_or_run_out(self._revisions.applied)
