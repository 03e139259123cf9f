"""Keyspaces, their declarations and what a change of them does."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from keyfence.v1 import keyspace_pb2, keyspace_service_pb2
from keyfence_server.application.apply_keyspace import KeyspaceDiff
from keyfence_server.application.read_keyspaces import ScopeReport
from keyfence_server.domain.declarations import (
    DEFAULT_ACCOUNTS,
    DEFAULT_ENVIRONMENTS,
    DEFAULT_FORMAT,
    DEFAULT_KEY_TYPES,
    AccountsDeclaration,
    EnvironmentDeclaration,
    FormatDeclaration,
    KeyDefaults,
    KeyspaceDeclaration,
    KeyTypeDeclaration,
    LevelDeclaration,
    PresetDeclaration,
    Registration,
    ResourceDeclaration,
    ScopeDeclaration,
)
from keyfence_server.domain.errors import InvalidInput
from keyfence_server.domain.keyspaces import BEFORE_STORED, Keyspace
from keyfence_server.rpc.convert.checks import path_of
from keyfence_server.rpc.convert.http_answers import http_from, http_of
from keyfence_server.rpc.convert.limits import limits_from, limits_of
from keyfence_server.rpc.convert.times import duration_from, duration_of, timestamp_of

_REGISTRATION_NUMBERS: Final[Mapping[Registration, keyspace_pb2.Registration.ValueType]] = {
    Registration.CLOSED: keyspace_pb2.REGISTRATION_CLOSED,
    Registration.OPEN: keyspace_pb2.REGISTRATION_OPEN,
}
_REGISTRATIONS: Final[Mapping[int, Registration]] = {
    keyspace_pb2.REGISTRATION_UNSPECIFIED: Registration.CLOSED,
    **{number: registration for registration, number in _REGISTRATION_NUMBERS.items()},
}


def declaration_from(message: keyspace_pb2.Keyspace) -> KeyspaceDeclaration:
    """What is declared. Output-only fields count for nothing."""
    return KeyspaceDeclaration(
        name=message.name,
        display_name=message.display_name,
        description=message.description,
        format=format_from(message.format) if message.HasField("format") else DEFAULT_FORMAT,
        scopes=tuple(
            ScopeDeclaration(
                name=scope.name, description=scope.description, implies=tuple(scope.implies)
            )
            for scope in message.scopes
        ),
        resources=tuple(map(_resource_from, message.resources)),
        presets=tuple(
            PresetDeclaration(
                name=preset.name, display_name=preset.display_name, scopes=tuple(preset.scopes)
            )
            for preset in message.presets
        ),
        key_types=tuple(map(_key_type_from, message.key_types)) or DEFAULT_KEY_TYPES,
        environments=tuple(
            EnvironmentDeclaration(name=one.name, description=one.description, marker=one.marker)
            for one in message.environments
        )
        or DEFAULT_ENVIRONMENTS,
        defaults=_defaults_from(message.defaults),
        max_lifetime=_lifetime(message, "max_lifetime"),
        http=http_from(message.http),
        accounts=_accounts_from(message.accounts) if message.HasField("accounts") else None,
        limits=limits_from(message.limits),
    )


def keyspace_of(keyspace: Keyspace) -> keyspace_pb2.Keyspace:
    """A keyspace as it is."""
    declaration = keyspace.declaration
    return keyspace_pb2.Keyspace(
        name=declaration.name,
        display_name=declaration.display_name,
        description=declaration.description,
        format=_format_of(declaration.format),
        scopes=(
            keyspace_pb2.Scope(
                name=scope.name, description=scope.description, implies=scope.implies
            )
            for scope in declaration.scopes
        ),
        resources=map(_resource_of, declaration.resources),
        presets=(
            keyspace_pb2.Preset(
                name=preset.name, display_name=preset.display_name, scopes=preset.scopes
            )
            for preset in declaration.presets
        ),
        key_types=map(_key_type_of, declaration.key_types),
        environments=(
            keyspace_pb2.Environment(name=one.name, description=one.description, marker=one.marker)
            for one in declaration.environments
        ),
        defaults=_defaults_of(declaration.defaults),
        max_lifetime=duration_of(declaration.max_lifetime),
        revision=keyspace.revision,
        create_time=_time_of(keyspace.create_time),
        update_time=_time_of(keyspace.update_time),
        previous_formats=map(_format_of, keyspace.previous_formats),
        accounts=_accounts_of(declaration.accounts),
        http=http_of(declaration.http),
        limits=limits_of(declaration.limits),
    )


def diff_of(diff: KeyspaceDiff) -> keyspace_service_pb2.KeyspaceDiff:
    """What a declaration changes."""
    return keyspace_service_pb2.KeyspaceDiff(
        created=diff.created,
        added_scopes=diff.added_scopes,
        removed_scopes=diff.removed_scopes,
        changed_scopes=diff.changed_scopes,
        changed_fields=diff.changed_fields,
        affected_keys=(
            keyspace_service_pb2.KeyScopeChange(
                key_id=change.key.key_id,
                account_id=change.key.account_id,
                display_name=change.key.display_name,
                gained_scopes=change.gained_scopes,
                lost_scopes=change.lost_scopes,
            )
            for change in diff.affected_keys
        ),
        affected_key_count=diff.affected_key_count,
    )


def scope_report_of(report: ScopeReport) -> keyspace_service_pb2.ExplainScopeResponse:
    """How a scope hangs together with the others."""
    return keyspace_service_pb2.ExplainScopeResponse(
        scope=report.scope,
        description=report.description,
        implies=map(path_of, report.implies),
        implied_by=map(path_of, report.implied_by),
        presets=report.presets,
        capped_key_types=report.capped_key_types,
        active_key_count=report.active_key_count,
    )


def format_from(message: keyspace_pb2.KeyFormat) -> FormatDeclaration:
    """How keys look."""
    return FormatDeclaration(
        template=message.template,
        alphabet=message.body.alphabet,
        length=message.body.length,
        shown=message.body.shown,
        templates_by_key_type=dict(message.templates_by_key_type),
    )


def _time_of(time: datetime) -> Timestamp | None:
    return None if time == BEFORE_STORED else timestamp_of(time)


def _format_of(declared: FormatDeclaration) -> keyspace_pb2.KeyFormat:
    return keyspace_pb2.KeyFormat(
        template=declared.template,
        body=keyspace_pb2.KeyBody(
            alphabet=declared.alphabet, length=declared.length, shown=declared.shown
        ),
        templates_by_key_type=declared.templates_by_key_type,
    )


def _resource_from(message: keyspace_pb2.Resource) -> ResourceDeclaration:
    return ResourceDeclaration(
        name=message.name,
        display_name=message.display_name,
        levels=tuple(
            LevelDeclaration(name=level.name, description=level.description)
            for level in message.levels
        ),
    )


def _resource_of(declared: ResourceDeclaration) -> keyspace_pb2.Resource:
    return keyspace_pb2.Resource(
        name=declared.name,
        display_name=declared.display_name,
        levels=(
            keyspace_pb2.Level(name=level.name, description=level.description)
            for level in declared.levels
        ),
    )


def _key_type_from(message: keyspace_pb2.KeyType) -> KeyTypeDeclaration:
    return KeyTypeDeclaration(
        name=message.name,
        description=message.description,
        marker=message.marker,
        scope_cap=tuple(message.scope_cap),
        manages_keys=message.manages_keys,
    )


def _key_type_of(declared: KeyTypeDeclaration) -> keyspace_pb2.KeyType:
    return keyspace_pb2.KeyType(
        name=declared.name,
        description=declared.description,
        marker=declared.marker,
        scope_cap=declared.scope_cap,
        manages_keys=declared.manages_keys,
    )


def _defaults_from(message: keyspace_pb2.KeyDefaults) -> KeyDefaults:
    return KeyDefaults(
        display_name=message.display_name,
        key_type=message.key_type,
        environment=message.environment,
        preset=message.preset,
        lifetime=_lifetime(message, "defaults.lifetime"),
    )


def _defaults_of(declared: KeyDefaults) -> keyspace_pb2.KeyDefaults:
    return keyspace_pb2.KeyDefaults(
        display_name=declared.display_name,
        key_type=declared.key_type,
        environment=declared.environment,
        preset=declared.preset,
        lifetime=duration_of(declared.lifetime),
    )


def _accounts_from(message: keyspace_pb2.Accounts) -> AccountsDeclaration:
    registration = _REGISTRATIONS.get(message.registration)
    if registration is None:
        raise InvalidInput.field("accounts.registration", "is none of those that there are")
    return AccountsDeclaration(
        registration=registration,
        password_min_length=message.password_min_length or DEFAULT_ACCOUNTS.password_min_length,
        session_lifetime=(
            duration_from(message.session_lifetime, "accounts.session_lifetime")
            if message.HasField("session_lifetime")
            else DEFAULT_ACCOUNTS.session_lifetime
        ),
        default_plan=message.default_plan,
        grantable_scopes=tuple(message.grantable_scopes),
    )


def _accounts_of(declared: AccountsDeclaration | None) -> keyspace_pb2.Accounts | None:
    if declared is None:
        return None
    return keyspace_pb2.Accounts(
        registration=_REGISTRATION_NUMBERS[declared.registration],
        password_min_length=declared.password_min_length,
        session_lifetime=duration_of(declared.session_lifetime),
        default_plan=declared.default_plan,
        grantable_scopes=declared.grantable_scopes,
    )


def _lifetime(
    message: keyspace_pb2.Keyspace | keyspace_pb2.KeyDefaults, path: str
) -> timedelta | None:
    if isinstance(message, keyspace_pb2.Keyspace):
        has, duration = message.HasField("max_lifetime"), message.max_lifetime
    else:
        has, duration = message.HasField("lifetime"), message.lifetime
    return duration_from(duration, path) if has else None
