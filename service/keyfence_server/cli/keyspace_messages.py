"""Between a declaration and the API's message of it, both ways.

The command is a client: it builds requests from files, and files from answers.
"""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from keyfence.v1 import keyspace_pb2
from keyfence_server.domain.declarations import (
    EnvironmentDeclaration,
    FormatDeclaration,
    KeyDefaults,
    KeyspaceDeclaration,
    KeyTypeDeclaration,
    LevelDeclaration,
    PresetDeclaration,
    ResourceDeclaration,
    ScopeDeclaration,
)


def message_from_declaration(declaration: KeyspaceDeclaration) -> keyspace_pb2.Keyspace:
    """The message that asks for this declaration."""
    return keyspace_pb2.Keyspace(
        name=declaration.name,
        display_name=declaration.display_name,
        description=declaration.description,
        format=_format_message(declaration.format),
        scopes=[
            keyspace_pb2.Scope(
                name=scope.name, description=scope.description, implies=scope.implies
            )
            for scope in declaration.scopes
        ],
        resources=[_resource_message(resource) for resource in declaration.resources],
        presets=[
            keyspace_pb2.Preset(
                name=preset.name, display_name=preset.display_name, scopes=preset.scopes
            )
            for preset in declaration.presets
        ],
        key_types=[
            keyspace_pb2.KeyType(
                name=kind.name,
                description=kind.description,
                marker=kind.marker,
                scope_cap=kind.scope_cap,
                manages_keys=kind.manages_keys,
            )
            for kind in declaration.key_types
        ],
        environments=[
            keyspace_pb2.Environment(name=one.name, description=one.description, marker=one.marker)
            for one in declaration.environments
        ],
        defaults=_defaults_message(declaration.defaults),
        max_lifetime=_duration_message(declaration.max_lifetime),
    )


def declaration_from_message(message: keyspace_pb2.Keyspace) -> KeyspaceDeclaration:
    """The declaration that a server has."""
    return KeyspaceDeclaration(
        name=message.name,
        display_name=message.display_name,
        description=message.description,
        format=FormatDeclaration(
            template=message.format.template,
            alphabet=message.format.body.alphabet,
            length=message.format.body.length,
            shown=message.format.body.shown,
            templates_by_key_type=dict(message.format.templates_by_key_type),
        ),
        scopes=tuple(
            ScopeDeclaration(
                name=scope.name, description=scope.description, implies=tuple(scope.implies)
            )
            for scope in message.scopes
        ),
        resources=tuple(_resource(resource) for resource in message.resources),
        presets=tuple(
            PresetDeclaration(
                name=preset.name, display_name=preset.display_name, scopes=tuple(preset.scopes)
            )
            for preset in message.presets
        ),
        key_types=tuple(
            KeyTypeDeclaration(
                name=kind.name,
                description=kind.description,
                marker=kind.marker,
                scope_cap=tuple(kind.scope_cap),
                manages_keys=kind.manages_keys,
            )
            for kind in message.key_types
        ),
        environments=tuple(
            EnvironmentDeclaration(name=one.name, description=one.description, marker=one.marker)
            for one in message.environments
        ),
        defaults=KeyDefaults(
            display_name=message.defaults.display_name,
            key_type=message.defaults.key_type,
            environment=message.defaults.environment,
            preset=message.defaults.preset,
            lifetime=_duration(message.defaults, "lifetime"),
        ),
        max_lifetime=_duration(message, "max_lifetime"),
    )


def _format_message(declaration: FormatDeclaration) -> keyspace_pb2.KeyFormat:
    return keyspace_pb2.KeyFormat(
        template=declaration.template,
        body=keyspace_pb2.KeyBody(
            alphabet=declaration.alphabet, length=declaration.length, shown=declaration.shown
        ),
        templates_by_key_type=declaration.templates_by_key_type,
    )


def _resource_message(resource: ResourceDeclaration) -> keyspace_pb2.Resource:
    return keyspace_pb2.Resource(
        name=resource.name,
        display_name=resource.display_name,
        levels=[
            keyspace_pb2.Level(name=level.name, description=level.description)
            for level in resource.levels
        ],
    )


def _defaults_message(defaults: KeyDefaults) -> keyspace_pb2.KeyDefaults:
    return keyspace_pb2.KeyDefaults(
        display_name=defaults.display_name,
        key_type=defaults.key_type,
        environment=defaults.environment,
        preset=defaults.preset,
        lifetime=_duration_message(defaults.lifetime),
    )


def _resource(message: keyspace_pb2.Resource) -> ResourceDeclaration:
    return ResourceDeclaration(
        name=message.name,
        display_name=message.display_name,
        levels=tuple(
            LevelDeclaration(name=level.name, description=level.description)
            for level in message.levels
        ),
    )


def _duration_message(duration: timedelta | None) -> Duration | None:
    if duration is None:
        return None
    message = Duration()
    message.FromTimedelta(duration)
    return message


def _duration(
    message: keyspace_pb2.Keyspace | keyspace_pb2.KeyDefaults, field: str
) -> timedelta | None:
    if not message.HasField(field):  # type: ignore[arg-type]
        return None
    duration: Duration = getattr(message, field)
    return duration.ToTimedelta()
