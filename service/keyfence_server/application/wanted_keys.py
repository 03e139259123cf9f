"""Finds the key type, the environment and the preset that a request names, in the keyspace."""

from __future__ import annotations

from collections.abc import Sequence

from keyfence_server.application.key_inputs import read_grants, require_grants_within_type
from keyfence_server.domain.errors import InvalidInput
from keyfence_server.domain.formats import KeyForm
from keyfence_server.domain.keyspaces import Keyspace


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
    name = preset
    if not name and not grants:
        name = keyspace.declaration.defaults.preset or ""
    if not name:
        return grants, None
    found = keyspace.find_preset(name)
    if found is None:
        choices = ", ".join(one.name for one in keyspace.declaration.presets) or "none"
        raise InvalidInput.field("preset", f"there is no preset {name[:64]!r}; declared: {choices}")
    require_grants_within_type("preset", found.scopes, keyspace, key_type)
    return tuple(sorted({*grants, *found.scopes})), found.name
