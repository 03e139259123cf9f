"""What a sidecar reads from the servers upstream, and what it reports to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from keyfence.v1 import keyspace_pb2, replication_service_pb2
from keyfence_server.application.ports import AuditEvent, UseToAdd
from keyfence_server.convert.checks import REASON_NUMBERS
from keyfence_server.convert.keyspaces import declaration_from, format_from
from keyfence_server.convert.times import time_from, timestamp_of
from keyfence_server.domain.keyspaces import Keyspace, compile_keyspace
from keyfence_server.domain.reasons import Reason


def keyspaces_from(messages: Iterable[keyspace_pb2.Keyspace]) -> list[Keyspace]:
    """Keyspaces, made ready. Raises `InvalidDeclaration` for one of a later version."""
    return [
        compile_keyspace(
            declaration_from(message),
            previous_formats=[format_from(one) for one in message.previous_formats],
            revision=message.revision,
            create_time=time_from(message.create_time, "create_time"),
            update_time=time_from(message.update_time, "update_time"),
        )
        for message in messages
    ]


def uses_of(uses: Sequence[UseToAdd]) -> replication_service_pb2.ReportUsesRequest:
    """Uses, to be reported."""
    return replication_service_pb2.ReportUsesRequest(
        uses=[
            replication_service_pb2.ReportedUse(
                key_id=one.key_id,
                day=one.day.isoformat(),
                last_used_time=timestamp_of(one.use.last_used_time),
                last_used_address=one.use.last_used_address,
                count=one.use.count,
            )
            for one in uses
        ]
    )


def attempts_of(events: Sequence[AuditEvent]) -> replication_service_pb2.ReportUsesRequest:
    """Failed attempts, put together as they would be written down, to be reported."""
    return replication_service_pb2.ReportUsesRequest(attempts=map(_attempt_of, events))


def _attempt_of(event: AuditEvent) -> replication_service_pb2.ReportedAttempt:
    details = {name: str(value) for name, value in event.details.items()}
    first = details.get("first_time")
    return replication_service_pb2.ReportedAttempt(
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
