"""What a sidecar reads from the servers upstream, and what it reports to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

from keyfence.v1 import key_service_pb2, keyspace_pb2, replication_service_pb2
from keyfence_server.application.ports import AuditEvent, UseToAdd
from keyfence_server.convert.checks import REASON_NUMBERS
from keyfence_server.convert.keys import STATES
from keyfence_server.convert.keyspaces import declaration_from, format_from
from keyfence_server.convert.limits import rate_from
from keyfence_server.convert.times import time_from, timestamp_of
from keyfence_server.domain.keys import Key, KeyId, Lineage
from keyfence_server.domain.keyspaces import Keyspace, compile_keyspace
from keyfence_server.domain.reasons import Reason
from keyfence_server.domain.secrets import Digest


def lineage_from(messages: Iterable[key_service_pb2.Key], digest: Digest) -> Lineage:
    """A key's records, each with the digest that this process knows the key by."""
    return tuple(_key_from(message, digest) for message in messages)


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


def _key_from(message: key_service_pb2.Key, digest: Digest) -> Key:
    return Key(
        key_id=KeyId(message.key_id),
        keyspace=message.keyspace,
        account_id=message.account_id,
        display_name=message.display_name,
        key_type=message.key_type,
        environment=message.environment,
        granted_scopes=tuple(message.granted_scopes),
        digest=digest,
        display_prefix=message.display_prefix,
        create_time=time_from(message.create_time, "create_time"),
        update_time=time_from(message.update_time, "update_time"),
        state=STATES[message.state],
        preset=message.preset or None,
        expire_time=_time(message, "expire_time"),
        revoke_time=_time(message, "revoke_time"),
        allowed_addresses=tuple(message.allowed_addresses),
        bound_keyspaces=tuple(message.bound_keyspaces),
        labels=dict(message.labels),
        parent_key_id=_key_id(message.parent_key_id),
        rotated_from_key_id=_key_id(message.rotated_from_key_id),
        rotated_to_key_id=_key_id(message.rotated_to_key_id),
        created_by_key_id=_key_id(message.created_by_key_id),
        # Only that there is one counts here: its uses are counted upstream.
        rate_limit=(
            rate_from(message.rate_limit, "rate_limit") if message.HasField("rate_limit") else None
        ),
        revision=message.revision,
    )


def _time(
    message: key_service_pb2.Key, name: Literal["expire_time", "revoke_time"]
) -> datetime | None:
    return time_from(getattr(message, name), name) if message.HasField(name) else None


def _key_id(text: str) -> KeyId | None:
    return KeyId(text) if text else None
