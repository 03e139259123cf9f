"""A keyspace: the key system of one product, compiled from its declaration.

`compile_keyspace` refuses a declaration with all of its problems at once, except those that
only follow from another one. A keyspace that it returns is consistent: every scope that it names
is registered, every default exists, and every form has enough entropy.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, TypeVar

from keyfence_server.domain.accounts import accounts_problems
from keyfence_server.domain.catalog import ScopeCatalog
from keyfence_server.domain.declarations import (
    EnvironmentDeclaration,
    FormatDeclaration,
    KeyspaceDeclaration,
    KeyTypeDeclaration,
    PresetDeclaration,
)
from keyfence_server.domain.errors import InvalidDeclaration, Name, Path, Problem
from keyfence_server.domain.formats import (
    MAX_PREFIX_LENGTH,
    KeyForm,
    compile_form,
    format_problems,
)
from keyfence_server.domain.http_answers import HttpRules, compile_http, http_problems
from keyfence_server.domain.limits import rate_problem
from keyfence_server.domain.redaction import ID_PREFIXES, id_prefix_of
from keyfence_server.domain.scopes import NAME_RULE, is_scope_name, is_scope_part
from keyfence_server.domain.secrets import Plaintext

MAX_SCOPES: Final = 10_000
MAX_NAMES: Final = 100
MAX_LIFETIME: Final = timedelta(days=36_500)
MAX_DISPLAY_NAME: Final = 200
MAX_KEYS_PER_ACCOUNT: Final = 100_000
DEFAULT_DISPLAY_NAME: Final = "Default"
SYSTEM: Final = "system"
"""The built-in keyspace, whose keys are the operator credentials."""
MAX_FORMS: Final = 1_000
MAX_PREVIOUS_FORMATS: Final = 100

_MAX_PROBLEMS: Final = 100
_SHOWN: Final = 200  # of a text that is wrong, at most
_MAX_DESCRIPTION: Final = 2_000
_MAX_SCOPE_DESCRIPTION: Final = 500
BEFORE_STORED: Final = datetime.fromtimestamp(0, UTC)
"""The times of a keyspace that is built in or not stored yet."""

_KEYSPACE_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
_MARKED_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_MARKER: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")


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
    previous_formats: tuple[FormatDeclaration, ...]
    revision: int
    create_time: datetime
    update_time: datetime
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
        return _find(self.declaration.key_types, name)

    def find_environment(self, name: str) -> EnvironmentDeclaration | None:
        """The environment of this name."""
        return _find(self.declaration.environments, name)

    def find_preset(self, name: str) -> PresetDeclaration | None:
        """The preset of this name."""
        return _find(self.declaration.presets, name)

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

    def cap_mask(self, key_type: str) -> int:
        """The most that a key of this type can hold. A type that is gone holds nothing."""
        return self._caps.get(key_type, 0)


def is_keyspace_name(text: str) -> bool:
    """Whether a keyspace could have this name."""
    return _KEYSPACE_NAME.fullmatch(text) is not None


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Declared = TypeVar("Declared", bound=_Named)


def _find(declared: Iterable[Declared], name: str) -> Declared | None:
    return next((one for one in declared if one.name == name), None)


def compile_keyspace(
    declaration: KeyspaceDeclaration,
    *,
    previous_formats: Sequence[FormatDeclaration] = (),
    revision: int = 0,
    create_time: datetime = BEFORE_STORED,
    update_time: datetime = BEFORE_STORED,
) -> Keyspace:
    """Makes a keyspace ready.

    Raises:
        InvalidDeclaration: with everything that is wrong with the declaration, as far as
            one problem does not follow from another.
    """
    problems_of_forms = [
        *format_problems(declaration.format),
        *_format_reference_problems(declaration),
        *_marked_problems("key_types", declaration.key_types),
        *_marked_problems("environments", declaration.environments),
        *_form_count_problems(declaration),
    ]
    forms = {} if problems_of_forms else _forms(declaration)
    problems = [
        *_name_problems(declaration),
        *problems_of_forms,
        *_form_problems(forms),
        *_lifetime_problems(declaration),
        *http_problems(declaration.http),
        *(accounts_problems(declaration.accounts) if declaration.accounts else ()),
        *_limits_problems(declaration),
        *_grantable_problems(declaration),
    ]
    catalog = _catalog(declaration, problems)
    problems += _preset_problems(declaration)
    if catalog is not None:
        problems += _scope_reference_problems(declaration, catalog)
    problems += _default_problems(declaration)
    if problems or catalog is None:
        raise InvalidDeclaration(problems)
    earlier = {
        compile_form(previous, key_type="", type_marker="", environment_marker="")
        for previous in previous_formats
    }
    everything = catalog.mask(["*"])
    return Keyspace(
        declaration=declaration,
        previous_formats=tuple(previous_formats),
        revision=revision,
        create_time=create_time,
        update_time=update_time,
        catalog=catalog,
        forms=forms,
        recognised_forms=frozenset(forms.values()) | earlier,
        http=compile_http(declaration.http, declaration.name),
        _caps={
            key_type.name: catalog.mask(key_type.scope_cap) if key_type.scope_cap else everything
            for key_type in declaration.key_types
        },
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


def _form_count_problems(declaration: KeyspaceDeclaration) -> list[Problem]:
    """More forms than the server can be asked to compile and to search for."""
    types, environments = len(declaration.key_types), len(declaration.environments)
    if types * environments <= MAX_FORMS:
        return []
    return [
        Problem(
            ("environments",),
            f"{types} key types in {environments} environments are {types * environments} forms "
            f"of keys; at most {MAX_FORMS} are allowed",
        )
    ]


def _form_problems(forms: Mapping[tuple[str, str], KeyForm]) -> list[Problem]:
    """What is wrong with a prefix once its markers are filled in: the first such problem."""
    for (key_type, environment), form in forms.items():
        key = f'a key of type "{key_type}" and environment "{environment}"'
        if (start := id_prefix_of(form.prefix)) is not None:
            return [
                Problem(
                    ("format", "template"),
                    f'{key} would begin with "{start}", which Keyfence\'s own ids begin with '
                    f"({', '.join(ID_PREFIXES)}); ids are shown in logs and errors, and such keys "
                    "would be shown too: put other text first",
                )
            ]
        if len(form.prefix) > MAX_PREFIX_LENGTH:
            return [
                Problem(
                    ("format", "template"),
                    f"the prefix of {key} would have {len(form.prefix)} characters; at most "
                    f"{MAX_PREFIX_LENGTH} are allowed: shorten the template or the markers",
                )
            ]
    return []


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
        raise InvalidDeclaration(
            [
                Problem(
                    ("format",),
                    f"{len(forgotten)} earlier formats would be recognised; at most "
                    f"{MAX_PREVIOUS_FORMATS} are allowed: drop those that no key needs "
                    "(drop_previous_formats), or keep the present format",
                )
            ]
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
        path = ("resources", Name(resource.name[:_SHOWN]))
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
            if not is_scope_part(level.name):
                problems.append(
                    Problem(
                        (*path, "levels", Name(level.name)), "a level is one part of a scope's name"
                    )
                )
            elif name in implications:
                problems.append(
                    Problem(
                        (*path, "levels", Name(level.name)), f'scope "{name}" is declared twice'
                    )
                )
            implications[name] = [weaker] if weaker else []
            weaker = name
    try:
        return ScopeCatalog(implications)
    except InvalidDeclaration as error:
        problems += error.problems
        return ScopeCatalog({name: () for name in implications if is_scope_name(name)})


def _name_problems(declaration: KeyspaceDeclaration) -> list[Problem]:
    problems = []
    if not is_keyspace_name(declaration.name):
        problems.append(
            Problem(
                ("name",),
                f'"{declaration.name[:_SHOWN]}" is not a keyspace: 1 to 63 lower-case letters, '
                "digits and hyphens, starting with a letter",
            )
        )
    problems += _too_long(("display_name",), declaration.display_name, MAX_DISPLAY_NAME)
    problems += _too_long(("description",), declaration.description, _MAX_DESCRIPTION)
    for scope in declaration.scopes:
        path = ("scopes", Name(scope.name), "description")
        problems += _too_long(path, scope.description, _MAX_SCOPE_DESCRIPTION)
    return problems


def _too_long(path: Path, text: str, most: int) -> list[Problem]:
    return [Problem(path, f"at most {most} characters")] if len(text) > most else []


def _marked_problems(
    where: str, declared: Sequence[KeyTypeDeclaration | EnvironmentDeclaration]
) -> list[Problem]:
    if not declared:
        return [Problem((where,), "at least one is needed")]
    if len(declared) > MAX_NAMES:
        return [Problem((where,), f"at most {MAX_NAMES} are allowed")]
    problems = []
    seen: set[str] = set()
    for one in declared:
        if one.name in seen:
            problems.append(Problem((where, Name(one.name)), "is declared twice"))
        seen.add(one.name)
        if not _MARKED_NAME.fullmatch(one.name):
            problems.append(
                Problem(
                    (where, Name(one.name[:_SHOWN])),
                    "a name is 1 to 63 lower-case letters, digits, '-' and '_'",
                )
            )
        if one.marker and not _MARKER.fullmatch(one.marker):
            problems.append(
                Problem((where, Name(one.name), "marker"), "1 to 32 letters, digits, '-' and '_'")
            )
    return problems


def _format_reference_problems(declaration: KeyspaceDeclaration) -> list[Problem]:
    types = {key_type.name for key_type in declaration.key_types}
    return [
        Problem(("format", "templates_by_key_type", Name(name)), f'there is no key type "{name}"')
        for name in declaration.format.templates_by_key_type
        if name not in types
    ]


def _scope_reference_problems(
    declaration: KeyspaceDeclaration, catalog: ScopeCatalog
) -> list[Problem]:
    lists: dict[Path, tuple[str, ...]] = {
        **{("presets", Name(one.name), "scopes"): one.scopes for one in declaration.presets},
        **{
            ("key_types", Name(one.name), "scope_cap"): one.scope_cap
            for one in declaration.key_types
        },
    }
    if declaration.accounts is not None:
        lists["accounts", "grantable_scopes"] = declaration.accounts.grantable_scopes
    # A scope whose own name is wrong is complained of there.
    declared = {scope.name for scope in declaration.scopes}
    unknown = (
        Problem((*path, index), catalog.describe_unknown(pattern))
        for path, patterns in lists.items()
        for index, pattern in enumerate(patterns)
        if not catalog.knows(pattern) and pattern not in declared
    )
    return list(itertools.islice(unknown, _MAX_PROBLEMS))


def _preset_problems(declaration: KeyspaceDeclaration) -> list[Problem]:
    problems = []
    seen: set[str] = set()
    if len(declaration.presets) > MAX_NAMES:
        problems.append(Problem(("presets",), f"at most {MAX_NAMES} are allowed"))
    for preset in declaration.presets:
        if preset.name in seen:
            problems.append(Problem(("presets", Name(preset.name)), "is declared twice"))
        elif not is_scope_part(preset.name):
            problems.append(
                Problem(
                    ("presets", Name(preset.name[:_SHOWN])), "a preset's name has no ':' or spaces"
                )
            )
        elif not preset.scopes:
            problems.append(
                Problem(("presets", Name(preset.name), "scopes"), "at least one is needed")
            )
        seen.add(preset.name)
    return problems


def _default_problems(declaration: KeyspaceDeclaration) -> list[Problem]:
    defaults = declaration.defaults
    references: list[tuple[str, str, Sequence[_Named]]] = [
        ("key_type", defaults.key_type, declaration.key_types),
        ("environment", defaults.environment, declaration.environments),
        ("preset", defaults.preset, declaration.presets),
    ]
    problems = [
        Problem(
            ("defaults", field_name),
            f'there is no {field_name.replace("_", " ")} "{value}"; '
            f"declared: {', '.join(one.name for one in declared) or 'none'}",
        )
        for field_name, value, declared in references
        if value and _find(declared, value) is None
    ]
    return problems + _too_long(
        ("defaults", "display_name"), defaults.display_name, MAX_DISPLAY_NAME
    )


def _lifetime_problems(declaration: KeyspaceDeclaration) -> list[Problem]:
    problems = []
    lifetimes = {
        ("max_lifetime",): declaration.max_lifetime,
        ("defaults", "lifetime"): declaration.defaults.lifetime,
    }
    for path, lifetime in lifetimes.items():
        if lifetime is None:
            continue
        if not timedelta(0) < lifetime <= MAX_LIFETIME:
            problems.append(Problem(path, "must be more than zero and at most 100 years"))
        elif lifetime.microseconds:
            # A document cannot say it, so it would not come back from the store as it was.
            problems.append(Problem(path, "must be whole seconds"))
    longest, default = lifetimes.values()
    if longest and default and default > longest:
        problems.append(Problem(("defaults", "lifetime"), "is longer than max_lifetime"))
    return problems


def _limits_problems(declaration: KeyspaceDeclaration) -> list[Problem]:
    limits = declaration.limits
    rates = {
        "per_key": limits.per_key,
        "per_account": limits.per_account,
        "changes_per_account": limits.changes_per_account,
    }
    problems = [
        Problem(("limits", name), problem)
        for name, rate in rates.items()
        if rate is not None and (problem := rate_problem(rate)) is not None
    ]
    if not 0 <= limits.keys_per_account <= MAX_KEYS_PER_ACCOUNT:
        problems.append(
            Problem(("limits", "keys_per_account"), f"from 1 to {MAX_KEYS_PER_ACCOUNT}")
        )
    return problems


def _grantable_problems(declaration: KeyspaceDeclaration) -> list[Problem]:
    """What accounts may make keys of, and is not declared."""
    accounts = declaration.accounts
    if accounts is None:
        return []
    declared = {
        "grantable_key_types": (
            accounts.grantable_key_types,
            {one.name for one in declaration.key_types},
            "key type",
        ),
        "grantable_environments": (
            accounts.grantable_environments,
            {one.name for one in declaration.environments},
            "environment",
        ),
    }
    return [
        Problem(("accounts", field, index), f'there is no {what} "{name[:64]}"')
        for field, (names, known, what) in declared.items()
        for index, name in enumerate(names)
        if name not in known
    ]
