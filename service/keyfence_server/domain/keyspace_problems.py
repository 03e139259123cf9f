"""What is wrong with a keyspace's declaration: every problem at once, with its place.

The catalog of scopes finds the problems of scopes' names and implications itself. The
declarations of formats, of accounts and of HTTP answers have theirs beside them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final

from keyfence_server.domain.accounts import accounts_problems
from keyfence_server.domain.catalog import ScopeCatalog
from keyfence_server.domain.declarations import (
    EnvironmentDeclaration,
    KeyspaceDeclaration,
    KeyTypeDeclaration,
)
from keyfence_server.domain.errors import Name, Path, Problem
from keyfence_server.domain.formats import MAX_PREFIX_LENGTH, KeyForm, format_problems
from keyfence_server.domain.http_answers import http_problems
from keyfence_server.domain.limits import Rate, rate_problem
from keyfence_server.domain.redaction import ID_PREFIXES, id_prefix_of
from keyfence_server.domain.scopes import is_scope_part

MAX_NAMES: Final = 100
MAX_LIFETIME: Final = timedelta(days=36_500)
MAX_DISPLAY_NAME: Final = 200
MAX_KEYS_PER_ACCOUNT: Final = 100_000
MAX_FORMS: Final = 1_000
SHOWN: Final = 200
"""How many characters of a wrong text a problem shows at most."""

_MAX_PROBLEMS: Final = 100
_MAX_DESCRIPTION: Final = 2_000
_MAX_SCOPE_DESCRIPTION: Final = 500

_KEYSPACE_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
_MARKED_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_MARKER: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")


def is_keyspace_name(text: str) -> bool:
    """Whether a keyspace could have this name."""
    return _KEYSPACE_NAME.fullmatch(text) is not None


def problems_of_forms(declaration: KeyspaceDeclaration) -> list[Problem]:
    """The problems that keep the forms of keys from being compiled."""
    return [
        *format_problems(declaration.format),
        *_format_reference_problems(declaration),
        *_marked_problems("key_types", declaration.key_types),
        *_marked_problems("environments", declaration.environments),
        *_form_count_problems(declaration),
    ]


def problems_of_fields(declaration: KeyspaceDeclaration) -> Iterator[Problem]:
    """The problems of the fields that need neither the forms of keys nor the catalog of scopes."""
    yield from _name_problems(declaration)
    yield from _lifetime_problems(declaration)
    yield from http_problems(declaration.http)
    if declaration.accounts:
        yield from accounts_problems(declaration.accounts)
    yield from _limits_problems(declaration)
    yield from _grantable_problems(declaration)
    yield from _preset_problems(declaration)
    yield from _default_problems(declaration)


def problems_of_prefixes(forms: Mapping[tuple[str, str], KeyForm]) -> Iterator[Problem]:
    """What is wrong with a prefix once its markers are filled in: the first such problem."""
    for (key_type, environment), form in forms.items():
        key = f'a key of type "{key_type}" and environment "{environment}"'
        if (start := id_prefix_of(form.prefix)) is not None:
            yield Problem(
                ("format", "template"),
                f'{key} would begin with "{start}", which Keyfence\'s own ids begin with '
                f"({', '.join(ID_PREFIXES)}); ids are shown in logs and errors, and such keys "
                "would be shown too: put other text first",
            )
            return
        if len(form.prefix) > MAX_PREFIX_LENGTH:
            yield Problem(
                ("format", "template"),
                f"the prefix of {key} would have {len(form.prefix)} characters; at most "
                f"{MAX_PREFIX_LENGTH} are allowed: shorten the template or the markers",
            )
            return


def problems_of_references(
    declaration: KeyspaceDeclaration, catalog: ScopeCatalog
) -> list[Problem]:
    """Scopes and wildcards that are named and not registered."""
    lists: dict[Path, tuple[str, ...]] = {
        **{("presets", Name(one.name), "scopes"): one.scopes for one in declaration.presets},
        **{
            ("key_types", Name(one.name), "scope_cap"): one.scope_cap
            for one in declaration.key_types
        },
    }
    if declaration.accounts is not None:
        lists["accounts", "grantable_scopes"] = declaration.accounts.grantable_scopes
    # A scope whose own name is wrong is a problem of the catalog.
    declared = {scope.name for scope in declaration.scopes}
    unknown = (
        Problem((*path, index), catalog.describe_unknown(pattern))
        for path, patterns in lists.items()
        for index, pattern in enumerate(patterns)
        if not catalog.knows(pattern) and pattern not in declared
    )
    return list(itertools.islice(unknown, _MAX_PROBLEMS))


def _name_problems(declaration: KeyspaceDeclaration) -> Iterator[Problem]:
    if not is_keyspace_name(declaration.name):
        yield Problem(
            ("name",),
            f'"{declaration.name[:SHOWN]}" is not a keyspace: 1 to 63 lower-case letters, '
            "digits and hyphens, starting with a letter",
        )
    yield from _too_long(("display_name",), declaration.display_name, MAX_DISPLAY_NAME)
    yield from _too_long(("description",), declaration.description, _MAX_DESCRIPTION)
    for scope in declaration.scopes:
        path = ("scopes", Name(scope.name), "description")
        yield from _too_long(path, scope.description, _MAX_SCOPE_DESCRIPTION)


def _too_long(path: Path, text: str, most: int) -> Iterator[Problem]:
    if len(text) > most:
        yield Problem(path, f"at most {most} characters")


def _format_reference_problems(declaration: KeyspaceDeclaration) -> Iterator[Problem]:
    types = {key_type.name for key_type in declaration.key_types}
    for name in declaration.format.templates_by_key_type:
        if name not in types:
            path = ("format", "templates_by_key_type", Name(name))
            yield Problem(path, f'there is no key type "{name}"')


def _marked_problems(
    where: str, declared: Sequence[KeyTypeDeclaration | EnvironmentDeclaration]
) -> Iterator[Problem]:
    if not declared:
        yield Problem((where,), "at least one is needed")
    if len(declared) > MAX_NAMES:
        yield Problem((where,), f"at most {MAX_NAMES} are allowed")
        return
    seen: set[str] = set()
    for one in declared:
        path = (where, Name(one.name[:SHOWN]))
        if one.name in seen:
            yield Problem(path, "is declared twice")
        seen.add(one.name)
        if not _MARKED_NAME.fullmatch(one.name):
            yield Problem(path, "a name is 1 to 63 lower-case letters, digits, '-' and '_'")
        if one.marker and not _MARKER.fullmatch(one.marker):
            yield Problem((*path, "marker"), "1 to 32 letters, digits, '-' and '_'")


def _form_count_problems(declaration: KeyspaceDeclaration) -> Iterator[Problem]:
    """More forms than the server can be asked to compile and to search for."""
    types, environments = len(declaration.key_types), len(declaration.environments)
    if types * environments > MAX_FORMS:
        yield Problem(
            ("environments",),
            f"{types} key types in {environments} environments make {types * environments} "
            f"formats of keys; at most {MAX_FORMS} are allowed",
        )


def _preset_problems(declaration: KeyspaceDeclaration) -> Iterator[Problem]:
    if len(declaration.presets) > MAX_NAMES:
        yield Problem(("presets",), f"at most {MAX_NAMES} are allowed")
    seen: set[str] = set()
    for preset in declaration.presets:
        path = ("presets", Name(preset.name[:SHOWN]))
        if preset.name in seen:
            yield Problem(path, "is declared twice")
        elif not is_scope_part(preset.name):
            yield Problem(path, "a preset's name has no ':' or spaces")
        elif not preset.scopes:
            yield Problem((*path, "scopes"), "at least one is needed")
        seen.add(preset.name)


def _default_problems(declaration: KeyspaceDeclaration) -> Iterator[Problem]:
    defaults = declaration.defaults
    references = [
        ("key_type", defaults.key_type, [one.name for one in declaration.key_types]),
        ("environment", defaults.environment, [one.name for one in declaration.environments]),
        ("preset", defaults.preset, [one.name for one in declaration.presets]),
    ]
    for field_name, value, declared in references:
        if value and value not in declared:
            yield Problem(
                ("defaults", field_name),
                f'there is no {field_name.replace("_", " ")} "{value}"; '
                f"declared: {', '.join(declared) or 'none'}",
            )
    yield from _too_long(("defaults", "display_name"), defaults.display_name, MAX_DISPLAY_NAME)


def _lifetime_problems(declaration: KeyspaceDeclaration) -> Iterator[Problem]:
    lifetimes = {
        ("max_lifetime",): declaration.max_lifetime,
        ("defaults", "lifetime"): declaration.defaults.lifetime,
    }
    for path, lifetime in lifetimes.items():
        if lifetime is None:
            continue
        if not timedelta(0) < lifetime <= MAX_LIFETIME:
            yield Problem(path, "must be more than zero and at most 100 years")
        elif lifetime.microseconds:
            # A document cannot say it, so it would not come back from the store as it was.
            yield Problem(path, "must be whole seconds")
    longest, default = lifetimes.values()
    if longest and default and default > longest:
        yield Problem(("defaults", "lifetime"), "is longer than max_lifetime")


def _limits_problems(declaration: KeyspaceDeclaration) -> Iterator[Problem]:
    limits = declaration.limits
    for name in ("per_key", "per_account", "changes_per_account"):
        rate: Rate | None = getattr(limits, name)
        if rate is not None and (problem := rate_problem(rate)) is not None:
            yield Problem(("limits", name), problem)
    if not 0 <= limits.keys_per_account <= MAX_KEYS_PER_ACCOUNT:
        yield Problem(("limits", "keys_per_account"), f"from 1 to {MAX_KEYS_PER_ACCOUNT}")


def _grantable_problems(declaration: KeyspaceDeclaration) -> Iterator[Problem]:
    """What accounts may make keys of, and is not declared."""
    accounts = declaration.accounts
    if accounts is None:
        return
    for field, what, names, declared in (
        ("grantable_key_types", "key type", accounts.grantable_key_types, declaration.key_types),
        (
            "grantable_environments",
            "environment",
            accounts.grantable_environments,
            declaration.environments,
        ),
    ):
        known = {one.name for one in declared}
        for index, name in enumerate(names):
            if name not in known:
                yield Problem(("accounts", field, index), f'there is no {what} "{name[:64]}"')
