"""Keys' records, and what is wanted of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from keyfence.v1 import key_service_pb2
from keyfence_server.application.create_key import NewKey
from keyfence_server.application.import_keys import KeyToImport, SlowHashToImport
from keyfence_server.application.read_keys import ListedKey, Listing
from keyfence_server.application.rotate_key import Rotation
from keyfence_server.application.update_key import KeyUpdate
from keyfence_server.convert.limits import rate_from, rate_of
from keyfence_server.convert.times import duration_from, time_from, timestamp_of
from keyfence_server.domain.errors import InvalidInput
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.keys import Key, KeyState
from keyfence_server.domain.limits import Rate
from keyfence_server.domain.secrets import ForeignHash, Plaintext

_STATE_NUMBERS: Final[Mapping[KeyState, key_service_pb2.KeyState.ValueType]] = {
    KeyState.ACTIVE: key_service_pb2.KEY_STATE_ACTIVE,
    KeyState.DISABLED: key_service_pb2.KEY_STATE_DISABLED,
    KeyState.REVOKED: key_service_pb2.KEY_STATE_REVOKED,
}
STATES: Final[Mapping[int, KeyState]] = {number: state for state, number in _STATE_NUMBERS.items()}


def listed_key_of(listed: ListedKey) -> key_service_pb2.Key:
    """A key's record, with how the key was used."""
    message = _record_of(listed.key, listed.state, listed.scopes, is_cut=listed.is_cut)
    if listed.use is not None:
        message.last_used_time.CopyFrom(timestamp_of(listed.use.last_used_time))
        message.last_used_address = listed.use.last_used_address
        message.use_count = listed.use.count
    return message


def key_of(facts: KeyFacts) -> key_service_pb2.Key:
    """A key's record, as a mutation has left it."""
    scopes, is_cut = facts.listed_scopes()
    return _record_of(facts.key, facts.state, scopes, is_cut=is_cut)


def _record_of(
    key: Key, state: KeyState, scopes: Sequence[str], *, is_cut: bool
) -> key_service_pb2.Key:
    return key_service_pb2.Key(
        key_id=key.key_id,
        keyspace=key.keyspace,
        account_id=key.account_id,
        display_name=key.display_name,
        granted_scopes=key.granted_scopes,
        effective_scopes=scopes,
        effective_scopes_truncated=is_cut,
        state=_STATE_NUMBERS[state],
        expire_time=timestamp_of(key.expire_time),
        key_type=key.key_type,
        environment=key.environment,
        display_prefix=key.display_prefix,
        preset=key.preset or "",
        create_time=timestamp_of(key.create_time),
        update_time=timestamp_of(key.update_time),
        revoke_time=timestamp_of(key.revoke_time),
        revision=key.revision,
        allowed_addresses=key.allowed_addresses,
        parent_key_id=key.parent_key_id or "",
        rotated_from_key_id=key.rotated_from_key_id or "",
        rotated_to_key_id=key.rotated_to_key_id or "",
        created_by_key_id=key.created_by_key_id or "",
        labels=key.labels,
        bound_keyspaces=key.bound_keyspaces,
        rate_limit=rate_of(key.rate_limit),
    )


def new_key_from(request: key_service_pb2.CreateKeyRequest) -> NewKey:
    """What a new key should be."""
    return NewKey(
        keyspace=request.keyspace,
        account_id=request.account_id,
        display_name=request.display_name,
        scopes=tuple(request.scopes),
        preset=request.preset,
        key_type=request.key_type,
        environment=request.environment,
        expire_time=_expire_time(request, "expire_time"),
        request_id=request.request_id,
        allowed_addresses=tuple(request.allowed_addresses),
        labels=dict(request.labels),
        parent_key_id=request.parent_key_id,
        bound_keyspaces=tuple(request.bound_keyspaces),
        rate_limit=_rate_limit(request),
    )


def key_to_import_from(message: key_service_pb2.KeyToImport) -> KeyToImport:
    """A key that another program has made."""
    secret: Plaintext | tuple[ForeignHash, bytes] | SlowHashToImport | None = None
    match message.WhichOneof("secret"):
        case "api_key":
            secret = Plaintext(message.api_key)
        case "sha256":
            secret = ForeignHash.SHA256, message.sha256
        case "sha512":
            secret = ForeignHash.SHA512, message.sha512
        case "hmac_sha256":
            secret = ForeignHash.HMAC_SHA256, message.hmac_sha256
        case "password_hash":
            secret = SlowHashToImport(message.password_hash.prefix, message.password_hash.hash)
    return KeyToImport(
        secret=secret,
        account_id=message.account_id,
        display_name=message.display_name,
        scopes=tuple(message.scopes),
        preset=message.preset,
        key_type=message.key_type,
        environment=message.environment,
        expire_time=_expire_time(message, "expire_time"),
        allowed_addresses=tuple(message.allowed_addresses),
        labels=dict(message.labels),
        rate_limit=_rate_limit(message),
    )


def update_from(request: key_service_pb2.UpdateKeyRequest) -> KeyUpdate:
    """How a record should become."""
    key = request.key
    fields = frozenset(request.update_mask.paths)
    return KeyUpdate(
        key_id=key.key_id,
        fields=fields,
        display_name=key.display_name,
        granted_scopes=tuple(key.granted_scopes),
        # What the mask leaves out is not looked at, so it cannot be wrong either.
        state=state_from(key.state, "state") if "state" in fields else None,
        expire_time=_expire_time(key, "expire_time") if "expire_time" in fields else None,
        allowed_addresses=tuple(key.allowed_addresses),
        labels=dict(key.labels),
        rate_limit=_rate_limit(key) if "rate_limit" in fields else None,
        if_revision=request.if_revision,
    )


def rotation_from(request: key_service_pb2.RotateKeyRequest) -> Rotation:
    """How a key should be replaced."""
    has_overlap = request.HasField("overlap")
    return Rotation(
        key_id=request.key_id,
        overlap=duration_from(request.overlap, "overlap") if has_overlap else timedelta(0),
        expire_time=_expire_time(request, "expire_time"),
        request_id=request.request_id,
    )


def listing_from(request: key_service_pb2.ListKeysRequest) -> Listing:
    """Which keys to list."""
    return Listing(
        keyspace=request.keyspace,
        account_id=request.account_id,
        page_size=request.page_size,
        page_token=request.page_token,
        state=state_from(request.state, "state"),
        parent_key_id=request.parent_key_id,
        key_type=request.key_type,
        environment=request.environment,
        display_prefix=request.display_prefix,
        labels=tuple(request.labels),
        scope=request.scope,
        unused_since_time=_time(request, "unused_since_time"),
        never_used=request.never_used,
        expiring_before_time=_time(request, "expiring_before_time"),
    )


def _time(request: Message, path: str) -> datetime | None:
    return time_from(getattr(request, path), path) if request.HasField(path) else None


def state_from(number: int, path: str) -> KeyState | None:
    """The state of this number; None where none is given."""
    if number == key_service_pb2.KEY_STATE_UNSPECIFIED:
        return None
    state = STATES.get(number)
    if state is None:
        raise InvalidInput.field(path, "is none of the states that there are")
    return state


def _expire_time(
    message: key_service_pb2.CreateKeyRequest
    | key_service_pb2.KeyToImport
    | key_service_pb2.RotateKeyRequest
    | key_service_pb2.Key,
    path: str,
) -> datetime | None:
    time: Timestamp = message.expire_time
    return time_from(time, path) if message.HasField("expire_time") else None


def _rate_limit(
    message: key_service_pb2.CreateKeyRequest | key_service_pb2.KeyToImport | key_service_pb2.Key,
) -> Rate | None:
    return rate_from(message.rate_limit, "rate_limit") if message.HasField("rate_limit") else None
