"""A keyspace: the key system of one product, compiled from its declaration.

`compile_keyspace` refuses a declaration with all of its problems at once, except those that
only follow from another one. A keyspace that it returns is consistent: every scope that it names
is registered, every default exists, and every form has enough entropy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from keyfence_server.domain.catalog import ScopeCatalog
from keyfence_server.domain.declarations import (
    FormatDeclaration,
    KeyspaceDeclaration,
    KeyTypeDeclaration,
    PresetDeclaration,
)
from keyfence_server.domain.errors import InvalidDeclaration, Name, Problem, UnknownScope
from keyfence_server.domain.formats import KeyForm, compile_form
from keyfence_server.domain.http_answers import HttpRules, compile_http
from keyfence_server.domain.keyspace_problems import (
    SHOWN,
    problems_of_fields,
    problems_of_forms,
    problems_of_prefixes,
    problems_of_references,
)
from keyfence_server.domain.scopes import NAME_RULE, is_scope_name, is_scope_part
from keyfence_server.domain.secrets import Plaintext

MAX_SCOPES: Final = 10_000
DEFAULT_DISPLAY_NAME: Final = "Default"
SYSTEM: Final = "system"
"""The built-in keyspace, whose keys are the operator credentials."""
MAX_PREVIOUS_FORMATS: Final = 100

BEFORE_STORED: Final = datetime.fromtimestamp(0, UTC)
"""The times of a keyspace that is built in or not stored yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyspace:
    """A declared keyspace and what follows from its declaration.

    Attributes:
        previous_formats: what keys looked like before, with the markers of that time
            written out. Keys made so still work.
        revision: the revision at which it last changed; 0 before it was stored.
        catalog: its scopes, compiled.
        forms: how keys look, by key type and environment.
        recognised_forms: those and all earlier ones.
        http: how it speaks HTTP at the edge, compiled.
    """

    declaration: KeyspaceDeclaration
    previous_formats: tuple[FormatDeclaration, ...] = ()
    revision: int = 0
    create_time: datetime = BEFORE_STORED
    update_time: datetime = BEFORE_STORED
    catalog: ScopeCatalog = field(compare=False, repr=False)
    forms: Mapping[tuple[str, str], KeyForm] = field(compare=False, repr=False)
    recognised_forms: frozenset[KeyForm] = field(compare=False, repr=False)
    http: HttpRules = field(compare=False, repr=False)
    _caps: Mapping[str, int] = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """The keyspace's name."""
        return self.declaration.name

    def find_key_type(self, name: str) -> KeyTypeDeclaration | None:
        """The key type of this name."""
        return next((one for one in self.declaration.key_types if one.name == name), None)

    def find_preset(self, name: str) -> PresetDeclaration | None:
        """The preset of this name."""
        return next((one for one in self.declaration.presets if one.name == name), None)

    @property
    def default_key_type(self) -> str:
        """The type of a key that is created without one."""
        return self.declaration.defaults.key_type or self.declaration.key_types[0].name

    @property
    def default_environment(self) -> str:
        """The environment of a key that is created without one."""
        return self.declaration.defaults.environment or self.declaration.environments[0].name

    @property
    def default_display_name(self) -> str:
        """The name of a key that is created without one."""
        return self.declaration.defaults.display_name or DEFAULT_DISPLAY_NAME

    def recognises(self, display_prefix: str) -> bool:
        """Whether a key with this display prefix has a form that the keyspace has or had.

        Another keyspace may have a form that this one has dropped; its keys stay cut off.
        """
        return any(form.shows(display_prefix) for form in self.recognised_forms)

    def display_prefix_of(self, text: str) -> str:
        """What may be shown of a plaintext that has one of the keyspace's forms; empty for any
        other text."""
        for form in self.recognised_forms:
            if form.starts(text) and form.fits(text):
                return form.display_prefix(Plaintext(text))
        return ""

    def unknown_scope(self, path: str, scope: str) -> UnknownScope:
        """The error for a scope that is not registered, with the nearest one that is."""
        return UnknownScope(path, scope, self.name, self.catalog.nearest(scope))

    def cap_mask(self, key_type: str) -> int:
        """The most that a key of this type can hold. A type that is gone holds nothing."""
        return self._caps.get(key_type, 0)


def compile_keyspace(declaration: KeyspaceDeclaration) -> Keyspace:
    """Makes a keyspace ready, as one that is not stored yet.

    Raises:
        InvalidDeclaration: with everything that is wrong with the declaration, as far as
            one problem does not follow from another.
    """
    problems = problems_of_forms(declaration)
    forms = {} if problems else _forms(declaration)
    problems += problems_of_prefixes(forms)
    problems += problems_of_fields(declaration)
    catalog = _catalog(declaration, problems)
    if catalog is not None:
        problems += problems_of_references(declaration, catalog)
    if problems or catalog is None:
        raise InvalidDeclaration(problems)
    everything = catalog.mask(["*"])
    return Keyspace(
        declaration=declaration,
        catalog=catalog,
        forms=forms,
        recognised_forms=frozenset(forms.values()),
        http=compile_http(declaration.http, declaration.name),
        _caps={
            key_type.name: catalog.mask(key_type.scope_cap) if key_type.scope_cap else everything
            for key_type in declaration.key_types
        },
    )


def with_history(
    keyspace: Keyspace,
    previous_formats: Iterable[FormatDeclaration] = (),
    *,
    revision: int = 0,
    create_time: datetime = BEFORE_STORED,
    update_time: datetime = BEFORE_STORED,
) -> Keyspace:
    """A compiled keyspace, as one that is stored or follows one that is."""
    formats = tuple(previous_formats)
    earlier = {
        compile_form(previous, key_type="", type_marker="", environment_marker="")
        for previous in formats
    }
    return replace(
        keyspace,
        previous_formats=formats,
        revision=revision,
        recognised_forms=frozenset(keyspace.forms.values()) | earlier,
        create_time=create_time,
        update_time=update_time,
    )


def _forms(declaration: KeyspaceDeclaration) -> dict[tuple[str, str], KeyForm]:
    return {
        (key_type.name, environment.name): compile_form(
            declaration.format,
            key_type=key_type.name,
            type_marker=key_type.marker or key_type.name,
            environment_marker=environment.marker or environment.name,
        )
        for key_type in declaration.key_types
        for environment in declaration.environments
    }


EVERY_FORMAT: Final = "*"


def forms_to_drop(before: Keyspace, after: Keyspace, templates: Collection[str]) -> set[KeyForm]:
    """The earlier forms that are no longer to be recognised.

    Args:
        templates: of the earlier formats to drop, as `previous_formats` has them, or "*" for
            all of them. Others are ignored: they may have been dropped before.
    """
    return {
        form
        for form in before.recognised_forms - frozenset(after.forms.values())
        if EVERY_FORMAT in templates or form.as_declaration().template in templates
    }


def formats_to_remember(
    before: Keyspace, after: Keyspace, dropped: Collection[KeyForm] = ()
) -> tuple[FormatDeclaration, ...]:
    """The formats of existing keys that a change takes away, and that stay recognised.

    Raises:
        InvalidDeclaration: there are too many of them.
    """
    forgotten = before.recognised_forms - frozenset(after.forms.values()) - set(dropped)
    if len(forgotten) > MAX_PREVIOUS_FORMATS:
        raise InvalidDeclaration.field(
            "format",
            f"{len(forgotten)} earlier formats would be recognised; at most "
            f"{MAX_PREVIOUS_FORMATS} are allowed: drop those that no key needs "
            "(drop_previous_formats), or keep the present format",
        )
    return tuple(
        sorted(
            (form.as_declaration() for form in forgotten),
            key=lambda form: (form.template, form.body.alphabet, form.body.length, form.body.shown),
        )
    )


def _catalog(declaration: KeyspaceDeclaration, problems: list[Problem]) -> ScopeCatalog | None:
    """The compiled catalog, or one of the names alone where what they imply cannot be; None
    where there are too many. Adds what is wrong to the problems."""
    implications: dict[str, list[str]] = {}
    count = len(declaration.scopes) + sum(len(r.levels) for r in declaration.resources)
    if count > MAX_SCOPES:
        problems.append(Problem(("scopes",), f"{count} scopes; at most {MAX_SCOPES} are allowed"))
        return None
    for scope in declaration.scopes:
        if scope.name in implications:
            problems.append(Problem(("scopes", Name(scope.name)), "is declared twice"))
        implications[scope.name] = list(scope.implies)
    seen: set[str] = set()
    for resource in declaration.resources:
        path = ("resources", Name(resource.name[:SHOWN]))
        if resource.name in seen:
            problems.append(Problem(path, "is declared twice"))
        seen.add(resource.name)
        if not is_scope_name(resource.name):
            problems.append(Problem(path, NAME_RULE))
            continue
        if not resource.levels:
            problems.append(Problem((*path, "levels"), "a resource needs at least one level"))
        weaker: str | None = None
        for level in resource.levels:
            name = f"{resource.name}:{level.name}"
            level_path = (*path, "levels", Name(level.name))
            if not is_scope_part(level.name):
                problems.append(Problem(level_path, "a level is one part of a scope's name"))
            elif name in implications:
                problems.append(Problem(level_path, f'scope "{name}" is declared twice'))
            implications[name] = [weaker] if weaker else []
            weaker = name
    try:
        return ScopeCatalog(implications)
    except InvalidDeclaration as error:
        problems += error.problems
        return ScopeCatalog({name: () for name in implications if is_scope_name(name)})
