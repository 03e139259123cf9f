"""Reports a sidecar's uses and failed attempts upstream, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, TypeVar

import structlog

from keyfence import rpcs
from keyfence.v1 import replication_service_pb2 as messages
from keyfence_server.adapters.upstream.channels import Upstream
from keyfence_server.application.ports import AuditEvent, UseToAdd
from keyfence_server.convert.checks import REASON_NUMBERS
from keyfence_server.convert.times import timestamp_of
from keyfence_server.domain.reasons import Reason

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
            await self._upstream.ask(rpcs.REPORT_USES, _uses_of(batch))

    async def append_events(self, events: Sequence[AuditEvent]) -> None:
        """See the port. Events that are refused, as after this process's credential has been
        bound to fewer keyspaces, are lost, and the log says so."""
        for batch in _reports_of(events):
            report = messages.ReportUsesRequest(attempts=map(_attempt_of, batch))
            response = await self._upstream.ask(rpcs.REPORT_USES, report)
            if response.refused_attempts:
                _log.warning("failed_attempts_refused", refused=response.refused_attempts)


def _reports_of(noted: Sequence[Noted]) -> Iterator[Sequence[Noted]]:
    for start in range(0, len(noted), _IN_A_REPORT):
        yield noted[start : start + _IN_A_REPORT]


def _uses_of(uses: Sequence[UseToAdd]) -> messages.ReportUsesRequest:
    """Uses, to be reported."""
    return messages.ReportUsesRequest(
        uses=[
            messages.ReportedUse(
                key_id=one.key_id,
                day=one.day.isoformat(),
                last_used_time=timestamp_of(one.use.last_used_time),
                last_used_address=one.use.last_used_address,
                count=one.use.count,
            )
            for one in uses
        ]
    )


def _attempt_of(event: AuditEvent) -> messages.ReportedAttempt:
    """Failed attempts, put together as they would be written down, to be reported."""
    details = {name: str(value) for name, value in event.details.items()}
    first = details.get("first_time")
    return messages.ReportedAttempt(
        keyspace=event.keyspace,
        reason=REASON_NUMBERS[Reason[details["reason"]]],
        account_id=event.account_id or "",
        subject=event.subject,
        address=details.get("address", ""),
        first_time=timestamp_of(datetime.fromisoformat(first) if first else event.time),
        last_time=timestamp_of(event.time),
        count=int(details["count"]),
        request_id=event.request_id or "",
    )
