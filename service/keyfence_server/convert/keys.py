"""Keys' records, and the requests about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final

from keyfence.v1 import key_service_pb2
from keyfence_server.application.import_keys import KeyToImport, SlowHashToImport
from keyfence_server.application.read_keys import ListedKey, Listing
from keyfence_server.application.update_key import KeyUpdate
from keyfence_server.convert.fields import fields_for, fields_of
from keyfence_server.convert.limits import rate_from, rate_of
from keyfence_server.convert.times import time_from, write_time
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.keys import Key, KeyState
from keyfence_server.domain.secrets import Digest, ForeignHash, Plaintext

_STATE_NUMBERS: Final[Mapping[KeyState, key_service_pb2.KeyState.ValueType]] = {
    state: key_service_pb2.KeyState.Value(f"KEY_STATE_{state.name}") for state in KeyState
}
_NONE_IF_EMPTY: Final = (
    "preset",
    "parent_key_id",
    "rotated_from_key_id",
    "rotated_to_key_id",
    "created_by_key_id",
)
_UPDATABLE: Final = frozenset(field.name for field in dataclasses.fields(KeyUpdate)) - {"key_id"}


class ListedKeys:
    """Writes the records of a page. What keys with the same grants have in common is written once,
    and copied from then on."""

    def __init__(self) -> None:
        self._alike: dict[Hashable, key_service_pb2.Key] = {}

    def write(
        self, listed: ListedKey, make: Callable[[], key_service_pb2.Key] = key_service_pb2.Key
    ) -> key_service_pb2.Key:
        """A key's record, with how the key was used.

        Args:
            make: makes the message, by itself or in an answer.
        """
        key = listed.key
        place = key.granted_scopes, listed.scopes, key.key_type, key.environment, key.keyspace
        alike = self._alike.get(place)
        if alike is None:
            alike = self._alike[place] = _grants_of(key, listed.scopes, is_cut=listed.is_cut)
        message = make()
        message.CopyFrom(alike)
        _write_record(message, key, listed.state)
        use = listed.use
        if use is not None:
            write_time(message.last_used_time, use.last_used_time)
            message.last_used_address = use.last_used_address
            message.use_count = use.count
        return message


def key_of(facts: KeyFacts) -> key_service_pb2.Key:
    """A key's record, as a mutation has left it."""
    scopes, is_cut = facts.listed_scopes()
    message = _grants_of(facts.key, scopes, is_cut=is_cut)
    _write_record(message, facts.key, facts.state)
    return message


def key_from(message: key_service_pb2.Key, digest: Digest) -> Key:
    """A key's record, as another Keyfence has it, with the digest that this process knows it by."""
    values = fields_for(Key, message)
    values |= {name: values[name] or None for name in _NONE_IF_EMPTY}
    return Key(**values | {"digest": digest, "state": _state(values)})


def _grants_of(key: Key, scopes: Sequence[str], *, is_cut: bool) -> key_service_pb2.Key:
    """What keys of a kind have in common if they hold the same."""
    return key_service_pb2.Key(
        keyspace=key.keyspace,
        key_type=key.key_type,
        environment=key.environment,
        granted_scopes=key.granted_scopes,
        effective_scopes=scopes,
        effective_scopes_truncated=is_cut,
    )


def _write_record(message: key_service_pb2.Key, key: Key, state: KeyState) -> None:
    # A page has a thousand keys. To assign to a field is cheaper than to name it in a call, and
    # most keys have no more than what comes first.
    message.key_id = key.key_id
    message.account_id = key.account_id
    message.display_name = key.display_name
    message.state = _STATE_NUMBERS[state]
    message.display_prefix = key.display_prefix
    message.revision = key.revision
    write_time(message.create_time, key.create_time)
    write_time(message.update_time, key.update_time)
    for name, value in key.labels.items():
        message.labels[name] = value
    if key.expire_time is not None:
        write_time(message.expire_time, key.expire_time)
    if key.preset is not None:
        message.preset = key.preset
    if key.revoke_time is not None:
        write_time(message.revoke_time, key.revoke_time)
    if key.allowed_addresses:
        message.allowed_addresses.extend(key.allowed_addresses)
    if key.parent_key_id is not None:
        message.parent_key_id = key.parent_key_id
    if key.rotated_from_key_id is not None:
        message.rotated_from_key_id = key.rotated_from_key_id
    if key.rotated_to_key_id is not None:
        message.rotated_to_key_id = key.rotated_to_key_id
    if key.created_by_key_id is not None:
        message.created_by_key_id = key.created_by_key_id
    if key.bound_keyspaces:
        message.bound_keyspaces.extend(key.bound_keyspaces)
    if key.rate_limit is not None:
        message.rate_limit.CopyFrom(rate_of(key.rate_limit))


_SECRETS: Final[Mapping[str, Callable[[Any], object]]] = {
    "api_key": Plaintext,
    "sha256": lambda value: (ForeignHash.SHA256, value),
    "sha512": lambda value: (ForeignHash.SHA512, value),
    "hmac_sha256": lambda value: (ForeignHash.HMAC_SHA256, value),
    "password_hash": lambda value: SlowHashToImport(value.prefix, value.hash),
}
_PARTS: Final[Mapping[str, Callable[[Any], object]]] = {
    "scopes": tuple,
    "allowed_addresses": tuple,
    "labels": dict,
    "expire_time": lambda value: time_from(value, "expire_time"),
    "rate_limit": lambda value: rate_from(value, "rate_limit"),
}


def key_to_import_from(message: key_service_pb2.KeyToImport) -> KeyToImport:
    """A key that another program has made."""
    # By hand, since a call has hundreds of them.
    values: dict[str, Any] = {"secret": None}
    for field, value in message.ListFields():
        name = field.name
        if name in _SECRETS:
            values["secret"] = _SECRETS[name](value)
        else:
            values[name] = _PARTS[name](value) if name in _PARTS else value
    return KeyToImport(**values)


def update_from(request: key_service_pb2.UpdateKeyRequest) -> KeyUpdate:
    """How a record should become."""
    fields = frozenset(request.update_mask.paths)
    # What the mask leaves out is not looked at, so it cannot be wrong either.
    values: dict[str, Any] = fields_of(request.key, (), fields & _UPDATABLE)
    return KeyUpdate(
        fields=fields,
        if_revision=request.if_revision,
        **values | {"key_id": request.key.key_id, "state": _state(values)},
    )


def listing_from(request: key_service_pb2.ListKeysRequest) -> Listing:
    """Which keys to list."""
    values = fields_for(Listing, request)
    return Listing(**values | {"state": _state(values)})


def _state(values: Mapping[str, Any]) -> KeyState | None:
    name = values.get("state")
    return KeyState(name) if name else None
