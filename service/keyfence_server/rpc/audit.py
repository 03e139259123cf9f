"""`keyfence.v1.AuditService`: the audit log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from keyfence.v1 import audit_service_pb2 as messages
from keyfence_server.application.callers import Caller
from keyfence_server.application.export_audit import ExportAudit
from keyfence_server.application.pages import Page
from keyfence_server.application.ports import ChainEnd, RecordedEvent
from keyfence_server.application.read_audit import AuditListing, ReadAudit
from keyfence_server.convert.fields import value_from
from keyfence_server.convert.times import timestamp_of
from keyfence_server.rpc.answer_sizes import add_fitting
from keyfence_server.rpc.pipeline import Service


@dataclass(frozen=True, slots=True)
class AuditService:
    """Asks the use cases of the audit log."""

    _read_audit: ReadAudit
    _export_audit: ExportAudit

    def service(self) -> Service:
        return Service(
            messages.DESCRIPTOR.services_by_name["AuditService"],
            self,
            one_at_a_time=frozenset({"ListAuditEvents", "VerifyAuditEvents", "ExportAuditEvents"}),
        )

    async def list_audit_events(
        self, request: messages.ListAuditEventsRequest, caller: Caller
    ) -> messages.ListAuditEventsResponse:
        page = await self._read_audit.list(caller, value_from(AuditListing, request))
        answer = messages.ListAuditEventsResponse()
        answer.next_page_token = await add_fitting(page, _event_of, answer.events)
        return answer

    async def verify_audit_events(
        self, request: messages.VerifyAuditEventsRequest, caller: Caller
    ) -> messages.VerifyAuditEventsResponse:
        verified = await self._read_audit.verify(
            caller, ChainEnd(request.after_sequence, request.after_hash), request.max_events
        )
        return messages.VerifyAuditEventsResponse(
            sequence=verified.end.count,
            hash=verified.end.hash,
            complete=verified.is_complete,
            problem=verified.problem,
            removed_sequence=verified.removed.count,
            removed_hash=verified.removed.hash if verified.removed.count else b"",
        )

    async def export_audit_events(
        self, request: messages.ExportAuditEventsRequest, caller: Caller
    ) -> messages.ExportAuditEventsResponse:
        exported = await self._export_audit.export(
            caller, request.after_sequence, request.page_size
        )
        answer = messages.ExportAuditEventsResponse(
            previous_sequence=exported.previous.count, previous_hash=exported.previous.hash
        )
        page = Page(tuple(exported.events), "", token_after=lambda _: "")
        await add_fitting(page, lambda one, make: make(text=one.text, hash=one.hash), answer.events)
        return answer

    async def record_audit_export(
        self, request: messages.RecordAuditExportRequest, caller: Caller
    ) -> messages.RecordAuditExportResponse:
        end = await self._export_audit.record_export(
            caller, request.after_sequence, ChainEnd(request.sequence, request.hash)
        )
        return messages.RecordAuditExportResponse(sequence=end.count)


def _event_of(
    recorded: RecordedEvent, make: Callable[..., messages.AuditEvent]
) -> messages.AuditEvent:
    event = recorded.event
    details = json_format.ParseDict(dict(event.details), Struct())
    return make(
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
