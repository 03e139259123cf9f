"""What a sidecar notes in passing, reported upstream in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date

from keyfence.v1 import replication_service_pb2 as messages
from keyfence_server.adapters.upstream.channels import Upstream
from keyfence_server.application.ports import AuditEvent, UseToAdd

UsesOf = Callable[[Sequence[UseToAdd]], messages.ReportUsesRequest]


class UpstreamNotes:
    """Keeps the port `NoteStore`. Failed attempts are counted in this process's metrics and
    log, and are not reported: a sidecar's credential does not let it write audit events."""

    def __init__(self, upstream: Upstream, uses_of: UsesOf) -> None:
        self._upstream = upstream
        self._uses_of = uses_of

    async def add_uses(self, uses: Sequence[UseToAdd], *, forget_before: date) -> None:
        """See the port. How long uses are kept is decided upstream."""
        del forget_before
        if uses:
            await self._upstream.report_uses(self._uses_of(uses))

    async def append_events(self, events: Sequence[AuditEvent]) -> None:
        """See the class."""
        del events
