"""Facts as they come from another Keyfence."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from keyfence.v1 import key_service_pb2, keyspace_pb2, replication_service_pb2
from keyfence_server.application.ports import Change, ChangeKind
from keyfence_server.domain.keys import Key, KeyId, Lineage
from keyfence_server.domain.keyspaces import Keyspace, compile_keyspace
from keyfence_server.domain.secrets import Digest
from keyfence_server.rpc.convert.keys import STATES
from keyfence_server.rpc.convert.keyspaces import declaration_from, format_from
from keyfence_server.rpc.convert.times import time_from


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


def changes_from(message: replication_service_pb2.RevisionChanges) -> list[Change]:
    """What a revision changed. Caches go by subjects, so a key's keyspace is left out."""
    return [
        Change(
            ChangeKind.KEYSPACE if one.keyspace else ChangeKind.KEY,
            one.keyspace or one.key_id,
            one.keyspace,
            created=one.created,
        )
        for one in message.changes
    ]


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
        revision=message.revision,
    )


def _time(
    message: key_service_pb2.Key, name: Literal["expire_time", "revoke_time"]
) -> datetime | None:
    return time_from(getattr(message, name), name) if message.HasField(name) else None


def _key_id(text: str) -> KeyId | None:
    return KeyId(text) if text else None
