"""Declarations as plain data: what a keyspace file holds, and what the store keeps.

The document is made for people to write, so it takes short forms: a scope is a
name and a description, or a name and a mapping; a preset is a list of scopes, or a
mapping; an environment is a name. Reading it names every misplaced, misspelt or
mistyped thing at once, by its path. What the names then mean is the business of
`keyspaces.compile_keyspace`.

Reading what was written gives the same declaration again.
"""

from __future__ import annotations

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
    LimitsDeclaration,
    PresetDeclaration,
    Registration,
    ResourceDeclaration,
    ScopeDeclaration,
)
from keyfence_server.domain.document_fields import (
    Document,
    Fields,
    format_duration,
    without_empty,
)
from keyfence_server.domain.errors import InvalidDeclaration, Problem
from keyfence_server.domain.http_documents import http_to_document, read_http
from keyfence_server.domain.limits import Rate, parse_rate


def declaration_from_document(document: object) -> KeyspaceDeclaration:
    """Reads a keyspace's document.

    Raises:
        InvalidDeclaration: with everything that has the wrong name, type or form.
    """
    problems: list[Problem] = []
    root = Fields(document, "", problems)
    declaration = KeyspaceDeclaration(
        name=root.text("keyspace", required=True),
        display_name=root.text("display_name"),
        description=root.text("description"),
        format=_read_format(root.mapping("format")),
        scopes=root.named("scopes", _read_scope),
        resources=root.named("resources", _read_resource),
        presets=root.named("presets", _read_preset),
        key_types=root.named("key_types", _read_key_type) or DEFAULT_KEY_TYPES,
        environments=root.named("environments", _read_environment) or DEFAULT_ENVIRONMENTS,
        defaults=_read_defaults(root.mapping("defaults")),
        max_lifetime=root.duration("max_lifetime"),
        accounts=_read_accounts(root.mapping("accounts")) if root.has("accounts") else None,
        http=read_http(root.mapping("http")),
        limits=_read_limits(root.mapping("limits")),
    )
    root.finish()
    if problems:
        raise InvalidDeclaration(problems)
    return declaration


def declaration_to_document(declaration: KeyspaceDeclaration) -> Document:
    """Writes a declaration as a document of JSON types, empty things left out."""
    return without_empty(
        {
            "keyspace": declaration.name,
            "display_name": declaration.display_name,
            "description": declaration.description,
            "format": format_to_document(declaration.format),
            "scopes": {scope.name: _scope_document(scope) for scope in declaration.scopes},
            "resources": {
                resource.name: _resource_document(resource) for resource in declaration.resources
            },
            "presets": {
                preset.name: without_empty(
                    {"display_name": preset.display_name, "scopes": list(preset.scopes)}
                )
                for preset in declaration.presets
            },
            "key_types": {kind.name: _key_type_document(kind) for kind in declaration.key_types},
            "environments": {
                environment.name: without_empty(
                    {"description": environment.description, "marker": environment.marker}
                )
                for environment in declaration.environments
            },
            "defaults": _defaults_document(declaration.defaults),
            "max_lifetime": format_duration(declaration.max_lifetime),
            "accounts": _accounts_document(declaration.accounts),
            "http": http_to_document(declaration.http),
            "limits": _limits_document(declaration.limits),
        }
    )


def format_from_document(document: object) -> FormatDeclaration:
    """Reads what `format_to_document` wrote. Raises `InvalidDeclaration`."""
    problems: list[Problem] = []
    declaration = _read_format(Fields(document, "format", problems))
    if problems:
        raise InvalidDeclaration(problems)
    return declaration


def format_to_document(declaration: FormatDeclaration) -> Document:
    """Writes a key format as a document of JSON types."""
    return without_empty(
        {
            "template": declaration.template,
            "body": {
                "alphabet": declaration.alphabet,
                "length": declaration.length,
                "shown": declaration.shown,
            },
            "templates": dict(declaration.templates_by_key_type),
        }
    )


def _read_format(at: Fields) -> FormatDeclaration:
    body = at.mapping("body")
    read = FormatDeclaration(
        template=at.text("template") or DEFAULT_FORMAT.template,
        alphabet=body.text("alphabet") or DEFAULT_FORMAT.alphabet,
        length=body.integer("length", DEFAULT_FORMAT.length),
        shown=body.integer("shown", DEFAULT_FORMAT.shown),
        templates_by_key_type=at.texts_by_name("templates"),
    )
    body.finish()
    at.finish()
    return read


def _read_scope(name: str, at: Fields) -> ScopeDeclaration:
    return ScopeDeclaration(
        name=name, description=at.text("description"), implies=at.texts("implies")
    )


def _read_resource(name: str, at: Fields) -> ResourceDeclaration:
    return ResourceDeclaration(
        name=name,
        display_name=at.text("display_name"),
        levels=at.named(
            "levels",
            lambda level, of: LevelDeclaration(name=level, description=of.text("description")),
        ),
    )


def _read_preset(name: str, at: Fields) -> PresetDeclaration:
    return PresetDeclaration(
        name=name, display_name=at.text("display_name"), scopes=at.texts("scopes")
    )


def _read_key_type(name: str, at: Fields) -> KeyTypeDeclaration:
    return KeyTypeDeclaration(
        name=name,
        description=at.text("description"),
        marker=at.text("marker"),
        scope_cap=at.texts("scope_cap"),
        manages_keys=at.flag("manages_keys"),
    )


def _read_environment(name: str, at: Fields) -> EnvironmentDeclaration:
    return EnvironmentDeclaration(
        name=name, description=at.text("description"), marker=at.text("marker")
    )


def _read_defaults(at: Fields) -> KeyDefaults:
    read = KeyDefaults(
        display_name=at.text("display_name"),
        key_type=at.text("key_type"),
        environment=at.text("environment"),
        preset=at.text("preset"),
        lifetime=at.duration("lifetime"),
    )
    at.finish()
    return read


def _read_limits(at: Fields) -> LimitsDeclaration:
    read = LimitsDeclaration(
        per_key=_read_rate(at, "per_key"), per_account=_read_rate(at, "per_account")
    )
    at.finish()
    return read


def _read_rate(at: Fields, name: str) -> Rate | None:
    text = at.text(name)
    rate = parse_rate(text)
    if text and rate is None:
        at.complain(name, f'"{text[:50]}" is no rate; write one like 60/minute or 100/10s')
    return rate


def _read_accounts(at: Fields) -> AccountsDeclaration:
    name = at.text("registration") or DEFAULT_ACCOUNTS.registration.value
    choices = {one.value: one for one in Registration}
    if name not in choices:
        at.complain("registration", f"{' or '.join(choices)} is needed here")
    read = AccountsDeclaration(
        registration=choices.get(name, DEFAULT_ACCOUNTS.registration),
        password_min_length=at.integer("password_min_length", DEFAULT_ACCOUNTS.password_min_length),
        session_lifetime=at.duration("session_lifetime") or DEFAULT_ACCOUNTS.session_lifetime,
        default_plan=at.text("default_plan"),
        grantable_scopes=at.texts("grantable_scopes"),
    )
    at.finish()
    return read


def _scope_document(scope: ScopeDeclaration) -> object:
    if not scope.implies:
        return scope.description
    return without_empty({"description": scope.description, "implies": list(scope.implies)})


def _resource_document(resource: ResourceDeclaration) -> Document:
    return without_empty(
        {
            "display_name": resource.display_name,
            "levels": {level.name: level.description for level in resource.levels},
        }
    )


def _key_type_document(kind: KeyTypeDeclaration) -> Document:
    return without_empty(
        {
            "description": kind.description,
            "marker": kind.marker,
            "scope_cap": list(kind.scope_cap),
            "manages_keys": kind.manages_keys,
        }
    )


def _limits_document(limits: LimitsDeclaration) -> Document:
    return without_empty(
        {
            "per_key": str(limits.per_key or ""),
            "per_account": str(limits.per_account or ""),
        }
    )


def _accounts_document(declared: AccountsDeclaration | None) -> Document:
    if declared is None:
        return {}
    return without_empty(
        {
            "registration": declared.registration.value,
            "password_min_length": declared.password_min_length,
            "session_lifetime": format_duration(declared.session_lifetime),
            "default_plan": declared.default_plan,
            "grantable_scopes": list(declared.grantable_scopes),
        }
    )


def _defaults_document(defaults: KeyDefaults) -> Document:
    return without_empty(
        {
            "display_name": defaults.display_name,
            "key_type": defaults.key_type,
            "environment": defaults.environment,
            "preset": defaults.preset,
            "lifetime": format_duration(defaults.lifetime),
        }
    )
