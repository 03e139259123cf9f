"""Declarations as plain data: what a keyspace file holds, and what the store keeps.

The document is made for people to write, so it takes short forms: a scope is a
name and a description, or a name and a mapping; a preset is a list of scopes, or a
mapping; an environment is a name. Reading it names every misplaced, misspelt or
mistyped thing at once, by its path. What the names then mean is the business of
`keyspaces.compile_keyspace`.

Reading what was written gives the same declaration again.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final, TypeVar

from keyfence_server.domain.declarations import (
    DEFAULT_ENVIRONMENTS,
    DEFAULT_FORMAT,
    DEFAULT_KEY_TYPES,
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
from keyfence_server.domain.errors import InvalidDeclaration, Problem

Document = dict[str, object]
T = TypeVar("T")

_DURATION: Final = re.compile(r"([0-9]{1,10})(s|m|h|d)")
_SHORT_LISTS: Final = {"presets": "scopes", "resources": "levels"}
"""Which field a list, or a text alone, stands for where a thing is given in short."""
_UNITS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def declaration_from_document(document: object) -> KeyspaceDeclaration:
    """Reads a keyspace's document.

    Raises:
        InvalidDeclaration: with everything that has the wrong name, type or form.
    """
    problems: list[Problem] = []
    root = _Mapping(document, "", problems)
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
    )
    root.finish()
    if problems:
        raise InvalidDeclaration(problems)
    return declaration


def declaration_to_document(declaration: KeyspaceDeclaration) -> Document:
    """Writes a declaration as a document of JSON types, empty things left out."""
    return _without_empty(
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
                preset.name: _without_empty(
                    {"display_name": preset.display_name, "scopes": list(preset.scopes)}
                )
                for preset in declaration.presets
            },
            "key_types": {kind.name: _key_type_document(kind) for kind in declaration.key_types},
            "environments": {
                environment.name: _without_empty(
                    {"description": environment.description, "marker": environment.marker}
                )
                for environment in declaration.environments
            },
            "defaults": _defaults_document(declaration.defaults),
            "max_lifetime": format_duration(declaration.max_lifetime),
        }
    )


def format_from_document(document: object) -> FormatDeclaration:
    """Reads what `format_to_document` wrote. Raises `InvalidDeclaration`."""
    problems: list[Problem] = []
    declaration = _read_format(_Mapping(document, "format", problems))
    if problems:
        raise InvalidDeclaration(problems)
    return declaration


def format_to_document(declaration: FormatDeclaration) -> Document:
    """Writes a key format as a document of JSON types."""
    return _without_empty(
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


def parse_duration(text: str) -> timedelta | None:
    """Reads a duration like "30s", "15m", "12h" or "90d"; None if it is not one."""
    found = _DURATION.fullmatch(text)
    if found is None:
        return None
    try:
        return timedelta(seconds=int(found[1]) * _UNITS[found[2]])
    except OverflowError:
        return None


def format_duration(duration: timedelta | None) -> str:
    """Writes a duration in the largest unit that keeps it whole; nothing for None.

    Durations of declarations are whole seconds.
    """
    if duration is None:
        return ""
    seconds = int(duration.total_seconds())
    unit, size = next((u, s) for u, s in _UNITS.items() if seconds % s == 0)
    return f"{seconds // size}{unit}"


def _read_format(at: _Mapping) -> FormatDeclaration:
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


def _read_scope(name: str, at: _Mapping) -> ScopeDeclaration:
    return ScopeDeclaration(
        name=name, description=at.text("description"), implies=at.texts("implies")
    )


def _read_resource(name: str, at: _Mapping) -> ResourceDeclaration:
    return ResourceDeclaration(
        name=name,
        display_name=at.text("display_name"),
        levels=at.named(
            "levels",
            lambda level, of: LevelDeclaration(name=level, description=of.text("description")),
        ),
    )


def _read_preset(name: str, at: _Mapping) -> PresetDeclaration:
    return PresetDeclaration(
        name=name, display_name=at.text("display_name"), scopes=at.texts("scopes")
    )


def _read_key_type(name: str, at: _Mapping) -> KeyTypeDeclaration:
    return KeyTypeDeclaration(
        name=name,
        description=at.text("description"),
        marker=at.text("marker"),
        scope_cap=at.texts("scope_cap"),
        manages_keys=at.flag("manages_keys"),
    )


def _read_environment(name: str, at: _Mapping) -> EnvironmentDeclaration:
    return EnvironmentDeclaration(
        name=name, description=at.text("description"), marker=at.text("marker")
    )


def _read_defaults(at: _Mapping) -> KeyDefaults:
    read = KeyDefaults(
        display_name=at.text("display_name"),
        key_type=at.text("key_type"),
        environment=at.text("environment"),
        preset=at.text("preset"),
        lifetime=at.duration("lifetime"),
    )
    at.finish()
    return read


def _scope_document(scope: ScopeDeclaration) -> object:
    if not scope.implies:
        return scope.description
    return _without_empty({"description": scope.description, "implies": list(scope.implies)})


def _resource_document(resource: ResourceDeclaration) -> Document:
    return _without_empty(
        {
            "display_name": resource.display_name,
            "levels": {level.name: level.description for level in resource.levels},
        }
    )


def _key_type_document(kind: KeyTypeDeclaration) -> Document:
    return _without_empty(
        {
            "description": kind.description,
            "marker": kind.marker,
            "scope_cap": list(kind.scope_cap),
            "manages_keys": kind.manages_keys,
        }
    )


def _defaults_document(defaults: KeyDefaults) -> Document:
    return _without_empty(
        {
            "display_name": defaults.display_name,
            "key_type": defaults.key_type,
            "environment": defaults.environment,
            "preset": defaults.preset,
            "lifetime": format_duration(defaults.lifetime),
        }
    )


def _without_empty(document: Mapping[str, object]) -> Document:
    return {
        name: value
        for name, value in document.items()
        if value is not False and value not in ("", [], {})
    }


class _Mapping:
    """Reads the fields of one mapping and collects what is wrong with them.

    A field that is not there reads as empty. `finish` reports the ones that nobody
    asked for, so it comes last.
    """

    def __init__(self, value: object, path: str, problems: list[Problem]) -> None:
        self._path = path
        self._problems = problems
        self._known: list[str] = []
        self._fields: Mapping[object, object] = {}
        if isinstance(value, Mapping):
            self._fields = value
        elif value is not None:
            self._complain(path, f"a mapping is needed here, not {_kind(value)}")

    def text(self, name: str, *, required: bool = False) -> str:
        value = self._take(name)
        if isinstance(value, str):
            if required and not value:
                self._complain(self._at(name), "is empty")
            return value
        if value is not None:
            self._complain(self._at(name), f"text is needed here, not {_kind(value)}")
        elif required:
            self._complain(self._at(name), "is missing")
        return ""

    def integer(self, name: str, default: int) -> int:
        value = self._take(name)
        if value is None:
            return default
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31:
            return value
        self._complain(self._at(name), f"a whole number is needed here, not {_kind(value)}")
        return default

    def flag(self, name: str) -> bool:
        value = self._take(name)
        if value is not None and not isinstance(value, bool):
            self._complain(self._at(name), f"true or false is needed here, not {_kind(value)}")
        return value is True

    def duration(self, name: str) -> timedelta | None:
        text = self.text(name)
        if not text:
            return None
        duration = parse_duration(text)
        if duration is None:
            self._complain(
                self._at(name), f'"{text[:50]}" is no duration; write one like 30s, 15m, 12h or 90d'
            )
        return duration

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; a single text stands for a list of one."""
        value = self._take(name)
        if value is None:
            return ()
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list):
            self._complain(self._at(name), f"a list of texts is needed here, not {_kind(value)}")
            return ()
        for index, item in enumerate(value):
            if not isinstance(item, str):
                path = f"{self._at(name)}[{index}]"
                self._complain(path, f"text is needed here, not {_kind(item)}")
        return tuple(item for item in value if isinstance(item, str))

    def texts_by_name(self, name: str) -> dict[str, str]:
        value = self._take(name)
        path = self._at(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self._complain(path, f"a mapping by name is needed here, not {_kind(value)}")
            return {}
        for key, text in value.items():
            if not isinstance(key, str) or not isinstance(text, str):
                self._complain(f"{path}[{key!s:.50}]", "names and values must both be text")
        return {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, str)}

    def mapping(self, name: str) -> _Mapping:
        return _Mapping(self._take(name), self._at(name), self._problems)

    def named(self, name: str, read: Callable[[str, _Mapping], T]) -> tuple[T, ...]:
        """Named things in order: a mapping by name, or a list of names alone.

        A thing may be given in short: a preset as its scopes, a resource as its levels,
        anything else as its description.
        """
        value = self._take(name)
        path = self._at(name)
        if value is None:
            return ()
        if isinstance(value, list):
            value = dict.fromkeys(self._names(path, value))
        if not isinstance(value, Mapping):
            self._complain(path, f"a mapping by name is needed here, not {_kind(value)}")
            return ()
        things = []
        for key, thing in value.items():
            if not isinstance(key, str):
                self._complain(path, f"the name {key!r:.50} must be text; put it in quotes")
                continue
            fields = _Mapping(_long_form(name, thing), f"{path}[{key}]", self._problems)
            things.append(read(key, fields))
            fields.finish()
        return tuple(things)

    def _names(self, path: str, items: list[object]) -> list[str]:
        names = [item for item in items if isinstance(item, str)]
        for index, item in enumerate(items):
            if not isinstance(item, str):
                self._complain(f"{path}[{index}]", f"a name is needed here, not {_kind(item)}")
        if len(set(names)) != len(names):
            self._complain(path, "a name stands in it twice")
        return names

    def finish(self) -> None:
        """Complains about every field that was not asked for."""
        for name in self._fields:
            if name not in self._known:
                nearest = difflib.get_close_matches(str(name)[:100], self._known, n=1)
                hint = f'did you mean "{nearest[0]}"?' if nearest else f"known: {self._choices()}"
                self._complain(self._at(str(name)[:100]), f"there is no such field; {hint}")

    def _choices(self) -> str:
        return ", ".join(self._known)

    def _take(self, name: str) -> object:
        self._known.append(name)
        return self._fields.get(name)

    def _at(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def _complain(self, path: str, message: str) -> None:
        self._problems.append(Problem(path or "keyspace", message))


def _long_form(where: str, thing: object) -> object:
    field = _SHORT_LISTS.get(where)
    if field is None:
        return {"description": thing} if isinstance(thing, str) else thing
    if isinstance(thing, str):
        return {field: [thing]}
    return {field: thing} if isinstance(thing, list) else thing


def _kind(value: object) -> str:
    for kind, name in (
        (bool, "true or false"),
        (int, "a number"),
        (float, "a number"),
        (str, "text"),
        (list, "a list"),
        (Mapping, "a mapping"),
        (type(None), "nothing"),
    ):
        if isinstance(value, kind):
            return name
    return f"a {type(value).__name__}"
