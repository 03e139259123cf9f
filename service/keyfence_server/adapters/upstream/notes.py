"""Reports a sidecar's uses and failed attempts upstream, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

import structlog

from keyfence import rpcs
from keyfence_server.adapters.upstream.channels import Upstream
from keyfence_server.adapters.upstream.messages import attempts_of, uses_of
from keyfence_server.application.ports import AuditEvent, UseToAdd

_IN_A_REPORT: Final = 5_000
"""Half of what a server takes, which is well within the largest message that it takes."""

Noted = TypeVar("Noted")

_log = structlog.get_logger("keyfence.write_behind")


class UpstreamNotes:
    """Implements the `NoteStore` port. The only events of a sidecar are attempts that failed."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def add_uses(self, uses: Sequence[UseToAdd]) -> None:
        """See the port. How long uses are kept is decided upstream."""
        for batch in _reports_of(uses):
            await self._upstream.ask(rpcs.REPORT_USES, uses_of(batch))

    async def append_events(self, events: Sequence[AuditEvent]) -> None:
        """See the port. Events that are refused, as after this process's credential has been
        bound to fewer keyspaces, are lost, and the log says so."""
        for batch in _reports_of(events):
            response = await self._upstream.ask(rpcs.REPORT_USES, attempts_of(batch))
            if response.refused_attempts:
                _log.warning("failed_attempts_refused", refused=response.refused_attempts)


def _reports_of(noted: Sequence[Noted]) -> Iterator[Sequence[Noted]]:
    for start in range(0, len(noted), _IN_A_REPORT):
        yield noted[start : start + _IN_A_REPORT]
