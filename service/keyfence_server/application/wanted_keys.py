"""What a key that is created or imported is to be, and the record that follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime

from keyfence_server.application.key_inputs import (
    read_account_id,
    read_addresses,
    read_display_name,
    read_expire_time,
    read_grants,
    read_labels,
    read_rate_limit,
    require_grants_within_type,
)
from keyfence_server.application.ports import CredentialId
from keyfence_server.domain.errors import InvalidInput
from keyfence_server.domain.formats import KeyForm
from keyfence_server.domain.frozen import frozen
from keyfence_server.domain.keys import Key, KeyId
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.limits import Rate
from keyfence_server.domain.secrets import Digest


@frozen(kw_only=True)
class WantedKey:
    """The wanted properties of a key. Fields and defaults as in `CreateKeyRequest` and
    `KeyToImport`."""

    account_id: str = ""
    display_name: str = ""
    scopes: Sequence[str] = ()
    preset: str = ""
    key_type: str = ""
    environment: str = ""
    expire_time: datetime | None = None
    allowed_addresses: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    rate_limit: Rate | None = None


def record_of(
    wanted: WantedKey,
    keyspace: Keyspace,
    *,
    key_id: KeyId,
    account_id: str,
    key_type: str,
    environment: str,
    granted: tuple[tuple[str, ...], str | None],
    digest: Digest,
    display_prefix: str,
    made_by: CredentialId | None,
    now: datetime,
) -> Key:
    """The record of a key as it is wanted, with the defaults of its keyspace.

    Args:
        granted: what `grants_of` returned.

    Raises:
        InvalidInput: a property cannot be as wanted.
    """
    grants, preset = granted
    return Key(
        key_id=key_id,
        keyspace=keyspace.name,
        account_id=read_account_id(account_id),
        display_name=read_display_name(
            "display_name", wanted.display_name or keyspace.default_display_name
        ),
        key_type=key_type,
        environment=environment,
        granted_scopes=grants,
        digest=digest,
        display_prefix=display_prefix,
        create_time=now,
        update_time=now,
        preset=preset,
        expire_time=read_expire_time(
            wanted.expire_time,
            default=keyspace.declaration.defaults.lifetime,
            keyspace=keyspace,
            create_time=now,
            now=now,
        ),
        allowed_addresses=read_addresses(wanted.allowed_addresses),
        labels=read_labels(wanted.labels),
        created_by_key_id=made_by,
        rate_limit=read_rate_limit(wanted.rate_limit, keyspace),
    )


def form_of(keyspace: Keyspace, key_type: str, environment: str) -> KeyForm:
    """How keys of this type and environment look. Raises `InvalidInput`."""
    form = keyspace.forms.get((key_type, environment))
    if form is not None:
        return form
    declaration = keyspace.declaration
    if keyspace.find_key_type(key_type) is None:
        choices = ", ".join(one.name for one in declaration.key_types)
        raise InvalidInput.field(
            "key_type", f"there is no key type {key_type[:64]!r}; declared: {choices}"
        )
    choices = ", ".join(one.name for one in declaration.environments)
    raise InvalidInput.field(
        "environment", f"there is no environment {environment[:64]!r}; declared: {choices}"
    )


def grants_of(
    keyspace: Keyspace, scopes: Sequence[str], preset: str, key_type: str
) -> tuple[tuple[str, ...], str | None]:
    """The scopes to grant to a key of this type, those of its preset included; and the preset.

    Args:
        preset: its name. With neither scopes nor a preset, the keyspace's default is taken.

    Raises:
        InvalidInput, UnknownScope: something is not declared, or not for the type.
    """
    grants = read_grants("scopes", scopes, keyspace)
    require_grants_within_type("scopes", scopes, keyspace, key_type)
    name = preset or ("" if grants else keyspace.declaration.defaults.preset)
    if not name:
        return grants, None
    found = keyspace.find_preset(name)
    if found is None:
        choices = ", ".join(one.name for one in keyspace.declaration.presets) or "none"
        raise InvalidInput.field("preset", f"there is no preset {name[:64]!r}; declared: {choices}")
    require_grants_within_type("preset", found.scopes, keyspace, key_type)
    return tuple(sorted({*grants, *found.scopes})), found.name
