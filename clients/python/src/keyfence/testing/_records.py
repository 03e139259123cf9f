"""What a fake tells of a key's record."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from keyfence.v1 import key_service_pb2 as keys
from keyfence.v1 import principal_pb2, reason_pb2
from keyfence.v1 import replication_service_pb2 as replication

_STANDINGS: Final[Mapping[keys.KeyState.ValueType, reason_pb2.Reason.ValueType]] = {
    keys.KEY_STATE_REVOKED: reason_pb2.REASON_KEY_REVOKED,
    keys.KEY_STATE_DISABLED: reason_pb2.REASON_KEY_DISABLED,
}


def principal_of(key: keys.Key | None) -> principal_pb2.Principal | None:
    """Whose key it is; None without a key."""
    if key is None:
        return None
    principal = principal_pb2.Principal(
        key_id=key.key_id,
        account_id=key.account_id,
        keyspace=key.keyspace,
        key_type=key.key_type,
        environment=key.environment,
        display_name=key.display_name,
        granted_scopes=key.granted_scopes,
        effective_scopes=key.effective_scopes,
        display_prefix=key.display_prefix,
        labels=key.labels,
    )
    if key.HasField("expire_time"):
        principal.expire_time.CopyFrom(key.expire_time)
    return principal


def facts_of(key: keys.Key) -> replication.KeyFacts:
    """What a cache must know to answer checks of the key."""
    facts = replication.KeyFacts(
        principal=principal_of(key),
        standing=_STANDINGS.get(key.state, reason_pb2.REASON_OK),
        depends_on=[f"key:{key.key_id}", f"keyspace:{key.keyspace}", f"account:{key.account_id}"],
    )
    if key.HasField("expire_time"):
        facts.expire_time.CopyFrom(key.expire_time)
    if key.allowed_addresses:
        facts.address_lists.add(networks=key.allowed_addresses)
    return facts


def change_of(key: keys.Key, *, created: bool = False) -> replication.SubjectChange:
    """What caches are told about a change of the key."""
    return replication.SubjectChange(key_id=key.key_id, created=created, in_keyspace=key.keyspace)


def fits(key: keys.Key, request: keys.ListKeysRequest) -> bool:
    """Whether a key passes every filter that the request names."""
    labels = dict(text.partition("=")[::2] for text in request.labels)
    return (
        key.keyspace == request.keyspace
        and all(
            getattr(request, name) in {"", 0, getattr(key, name)}
            for name in (
                "account_id",
                "state",
                "parent_key_id",
                "key_type",
                "environment",
                "display_prefix",
            )
        )
        and labels.items() <= dict(key.labels).items()
        and (not request.scope or _has(key, request))
        and (
            not request.HasField("expiring_before_time")
            or (
                key.HasField("expire_time")
                and time_of(key.expire_time) < time_of(request.expiring_before_time)
            )
        )
    )


def _has(key: keys.Key, request: keys.ListKeysRequest) -> bool:
    return request.scope in key.effective_scopes and (
        bool(request.state) or key.state != keys.KEY_STATE_REVOKED
    )


def time_of(timestamp: Timestamp) -> datetime:
    """The time, aware."""
    return timestamp.ToDatetime(tzinfo=UTC)
