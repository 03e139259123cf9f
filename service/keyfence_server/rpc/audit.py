"""`keyfence.v1.AuditService`: the audit log."""

from __future__ import annotations

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from keyfence.v1 import audit_service_pb2 as messages
from keyfence_server.application.callers import Caller
from keyfence_server.application.ports import ChainEnd, RecordedEvent
from keyfence_server.application.read_audit import AuditListing, ReadAudit
from keyfence_server.rpc.answer_sizes import add_fitting
from keyfence_server.rpc.convert.times import time_from, timestamp_of
from keyfence_server.rpc.pipeline import Service


class AuditService:
    """Asks the use cases of the audit log."""

    def __init__(self, read_audit: ReadAudit) -> None:
        self._read_audit = read_audit

    def service(self) -> Service:
        """The service and its handlers."""
        return Service(
            messages.DESCRIPTOR.services_by_name["AuditService"],
            {
                "ListAuditEvents": self.list_audit_events,
                "VerifyAuditEvents": self.verify_audit_events,
            },
        )

    async def list_audit_events(
        self, request: messages.ListAuditEventsRequest, caller: Caller
    ) -> messages.ListAuditEventsResponse:
        """Lists events."""
        page = await self._read_audit.list(caller, _listing_from(request))
        answer = messages.ListAuditEventsResponse()
        answer.next_page_token = await add_fitting(page, _event_of, answer.events)
        return answer

    async def verify_audit_events(
        self, request: messages.VerifyAuditEventsRequest, caller: Caller
    ) -> messages.VerifyAuditEventsResponse:
        """Goes along a part of the chain."""
        verified = await self._read_audit.verify(
            caller, ChainEnd(request.after_sequence, request.after_hash), request.max_events
        )
        return messages.VerifyAuditEventsResponse(
            sequence=verified.end.count,
            hash=verified.end.hash,
            complete=verified.is_complete,
            problem=verified.problem,
        )


def _listing_from(request: messages.ListAuditEventsRequest) -> AuditListing:
    start = time_from(request.start_time, "start_time") if request.HasField("start_time") else None
    end = time_from(request.end_time, "end_time") if request.HasField("end_time") else None
    return AuditListing(
        keyspace=request.keyspace,
        account_id=request.account_id,
        subject=request.subject,
        actor_id=request.actor_id,
        action_prefix=request.action_prefix,
        start_time=start,
        end_time=end,
        page_size=request.page_size,
        page_token=request.page_token,
        newest_first=request.newest_first,
        after_event_id=request.after_event_id,
    )


def _event_of(recorded: RecordedEvent) -> messages.AuditEvent:
    event = recorded.event
    details = json_format.ParseDict(dict(event.details), Struct())
    return messages.AuditEvent(
        event_id=event.event_id,
        time=timestamp_of(event.time),
        action=event.action,
        keyspace=event.keyspace,
        account_id=event.account_id or "",
        subject=event.subject,
        actor_id=event.actor_key_id or "",
        request_id=event.request_id or "",
        details=details,
        sequence=recorded.sequence,
        revision=recorded.revision or 0,
        hash=recorded.hash,
    )
