"""Facts as they come from another Keyfence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Final, Literal

from keyfence.v1 import (
    authorization_service_pb2,
    key_service_pb2,
    keyspace_pb2,
    replication_service_pb2,
)
from keyfence_server.application.failed_attempts import Attempt, ReportedAttempts
from keyfence_server.application.ports import AuditEvent, Change, ChangeKind, KeyUse, UseToAdd
from keyfence_server.domain.accounts import AccountState
from keyfence_server.domain.addresses import parse_address
from keyfence_server.domain.errors import InvalidInput
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.keys import Key, KeyId, KeyState, Lineage
from keyfence_server.domain.keyspaces import Keyspace, compile_keyspace
from keyfence_server.domain.limits import RateLimitStatus
from keyfence_server.domain.redaction import is_an_id
from keyfence_server.domain.secrets import Digest
from keyfence_server.domain.verdicts import Reason
from keyfence_server.rpc.convert.checks import REASON_NUMBERS, principal_from
from keyfence_server.rpc.convert.keys import STATES
from keyfence_server.rpc.convert.keyspaces import declaration_from, format_from
from keyfence_server.rpc.convert.limits import rate_from, status_from
from keyfence_server.rpc.convert.times import time_from, timestamp_of
from keyfence_server.rpc.request_ids import HEADER, find_request_id

_KINDS: Final[Mapping[str, ChangeKind]] = {
    "key_id": ChangeKind.KEY,
    "keyspace": ChangeKind.KEYSPACE,
    "account_id": ChangeKind.ACCOUNT,
    "session_id": ChangeKind.SESSION,
}
_NAME: Final = re.compile(r"[\x21-\x7e]{0,128}")
_REASONS: Final[Mapping[int, Reason]] = {n: reason for reason, n in REASON_NUMBERS.items()}


def lineage_from(messages: Iterable[key_service_pb2.Key], digest: Digest) -> Lineage:
    """A key's records, each with the digest that this process knows the key by."""
    return tuple(_key_from(message, digest) for message in messages)


def facts_of(facts: KeyFacts) -> replication_service_pb2.KeyFacts:
    """What a holder needs to answer checks of a key."""
    key = facts.key
    principal = principal_from(facts)
    if principal.effective_scopes_truncated:
        # Holders decide by the list.
        principal.effective_scopes[:] = facts.effective_scopes
        principal.effective_scopes_truncated = False
    message = replication_service_pb2.KeyFacts(
        principal=principal,
        standing=REASON_NUMBERS[_standing(facts)],
        expire_time=timestamp_of(
            min((one.expire_time for one in facts.lineage if one.expire_time), default=None)
        ),
        is_counted=bool(facts.limits),
        depends_on=[
            *(f"key:{one.key_id}" for one in facts.lineage),
            f"keyspace:{key.keyspace}",
            f"account:{key.account_id}",
        ],
    )
    for networks in facts.allow_lists:
        message.address_lists.add(networks=map(str, networks))
    return message


def _standing(facts: KeyFacts) -> Reason:
    """Why the key does not pass, whatever the time and the address; OK if it may."""
    if facts.state is KeyState.REVOKED:
        return Reason.KEY_REVOKED
    if facts.state is KeyState.DISABLED:
        return Reason.KEY_DISABLED
    if facts.account_state is AccountState.DISABLED:
        return Reason.ACCOUNT_DISABLED
    return Reason.OK


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


def changes_from(message: replication_service_pb2.RevisionChanges) -> list[Change] | None:
    """What a revision changed; None if some of it is of a kind that this version does not
    know."""
    changes = []
    for one in message.changes:
        field = one.WhichOneof("subject")
        if field is None:
            return None
        subject = getattr(one, field)
        changes.append(Change(_KINDS[field], subject, one.in_keyspace, created=one.created))
    return changes


def counted_from(
    message: authorization_service_pb2.AuthenticateResponse,
) -> tuple[Reason, RateLimitStatus | None]:
    """What counting a check upstream came to."""
    return _REASONS[message.reason], (
        status_from(message.rate_limit) if message.HasField("rate_limit") else None
    )


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


def uses_from(
    messages: Iterable[replication_service_pb2.ReportedUse], *, first: int = 0
) -> list[UseToAdd]:
    """Uses that were reported, the first of them at this place. Raises `InvalidInput`."""
    uses = []
    for index, one in enumerate(messages, first):
        if not is_an_id(one.key_id):
            raise InvalidInput.field(f"uses[{index}].key_id", "is no id of a key")
        try:
            day = date.fromisoformat(one.day)
        except ValueError:
            raise InvalidInput.field(f"uses[{index}].day", "is no day like 2026-01-31") from None
        last = time_from(one.last_used_time, f"uses[{index}].last_used_time")
        if not 0 < one.count < 2**53:
            raise InvalidInput.field(f"uses[{index}].count", "cannot be")
        if one.last_used_address:
            try:
                parse_address(one.last_used_address)
            except ValueError:
                raise InvalidInput.field(
                    f"uses[{index}].last_used_address", "is no address"
                ) from None
        use = KeyUse(last, one.last_used_address, one.count)
        uses.append(UseToAdd(KeyId(one.key_id), day, use))
    return uses


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


def attempts_from(
    message: replication_service_pb2.ReportedAttempt, reported_by: str
) -> ReportedAttempts | None:
    """Failed attempts that were reported; None for some that cannot be."""
    reason = _REASONS.get(message.reason)
    try:
        first = time_from(message.first_time, "first_time").timestamp()
        last = time_from(message.last_time, "last_time").timestamp()
        address = str(parse_address(message.address)) if message.address else ""
    except (ValueError, InvalidInput):
        return None
    if (
        reason in (None, Reason.OK, Reason.CREDENTIAL_MISSING)
        or not 0 < message.count < 2**53
        or not 0 <= first <= last
        or not _NAME.fullmatch(message.account_id)
        or not _NAME.fullmatch(message.subject)
    ):
        return None
    return ReportedAttempts(
        Attempt(
            message.keyspace,
            reason.name,
            message.account_id,
            message.subject,
            address,
            reported_by=reported_by,
        ),
        message.count,
        first,
        last,
        find_request_id([(HEADER, message.request_id)]),
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
