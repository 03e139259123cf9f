"""Declarations made ready, or refused with everything that is wrong with them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from keyfence_server.domain.declarations import (
    EnvironmentDeclaration,
    KeyDefaults,
    KeyspaceDeclaration,
    KeyTypeDeclaration,
    LevelDeclaration,
    PresetDeclaration,
    ResourceDeclaration,
    ScopeDeclaration,
)
from keyfence_server.domain.errors import InvalidDeclaration
from keyfence_server.domain.keyspaces import Keyspace, compile_keyspace
from keyfence_server.domain.system import SYSTEM_KEYSPACE


def keyspace_with(**fields: Any) -> Keyspace:
    """A small keyspace, with whatever the test is about said by name."""
    defaults: dict[str, Any] = {
        "name": "acme",
        "scopes": (ScopeDeclaration(name="scan:read"), ScopeDeclaration(name="scan:write")),
    }
    return compile_keyspace(KeyspaceDeclaration(**{**defaults, **fields}))


def levels(*names: str) -> tuple[LevelDeclaration, ...]:
    return tuple(LevelDeclaration(name=name) for name in names)


def test_each_level_brings_the_ones_before_it() -> None:
    resource = ResourceDeclaration(name="projects", levels=levels("read", "write", "admin"))
    catalog = keyspace_with(resources=(resource,)).catalog
    assert catalog.names_in(catalog.mask(["projects:write"])) == (
        "projects:read",
        "projects:write",
    )
    assert catalog.names_in(catalog.mask(["projects:admin"])) == (
        "projects:admin",
        "projects:read",
        "projects:write",
    )
    assert catalog.names_in(catalog.mask(["projects:read"])) == ("projects:read",)


def test_a_cap_is_closed_over_the_graph_and_no_cap_is_everything() -> None:
    keyspace = keyspace_with(
        scopes=(
            ScopeDeclaration(name="a"),
            ScopeDeclaration(name="b", implies=("a",)),
            ScopeDeclaration(name="c"),
        ),
        key_types=(
            KeyTypeDeclaration(name="secret"),
            KeyTypeDeclaration(name="publishable", scope_cap=("b",)),
        ),
    )
    assert keyspace.catalog.names_in(keyspace.cap_mask("secret")) == ("a", "b", "c")
    assert keyspace.catalog.names_in(keyspace.cap_mask("publishable")) == ("a", "b")


def test_a_key_type_that_is_gone_holds_nothing() -> None:
    """Were it everything, dropping a type would lift its cap."""
    assert keyspace_with().cap_mask("gone") == 0


def test_defaults_are_the_first_of_each_where_nothing_is_said() -> None:
    keyspace = keyspace_with(
        key_types=(KeyTypeDeclaration(name="one"), KeyTypeDeclaration(name="two")),
        environments=(EnvironmentDeclaration(name="live"), EnvironmentDeclaration(name="test")),
    )
    assert keyspace.default_key_type == "one"
    assert keyspace.default_environment == "live"
    assert keyspace.default_display_name == "Default"


@pytest.mark.parametrize(
    ("fields", "paths"),
    [
        ({"name": "Acme"}, ["name"]),
        ({"name": "a" * 64}, ["name"]),
        ({"name": ""}, ["name"]),
        ({"display_name": "x" * 201}, ["display_name"]),
        ({"scopes": (ScopeDeclaration(name="a"), ScopeDeclaration(name="a"))}, ["scopes[a]"]),
        ({"scopes": (ScopeDeclaration(name="a", implies=("b",)),)}, ["scopes[a].implies[0]"]),
        ({"resources": (ResourceDeclaration(name="r"),)}, ["resources[r].levels"]),
        (
            {"resources": (ResourceDeclaration(name="R", levels=levels("read")),)},
            ["resources[R]"],
        ),
        (
            {"resources": (ResourceDeclaration(name="r", levels=levels("a:b")),)},
            ["resources[r].levels[a:b]"],
        ),
        (
            {"resources": (ResourceDeclaration(name="scan", levels=levels("read")),)},
            ["resources[scan].levels[read]"],
        ),
        (
            {
                "resources": (
                    ResourceDeclaration(name="r", levels=levels("one")),
                    ResourceDeclaration(name="r", levels=levels("two")),
                )
            },
            ["resources[r]"],
        ),
        ({"presets": (PresetDeclaration(name="p"),)}, ["presets[p].scopes"]),
        ({"presets": (PresetDeclaration(name="p", scopes=("x",)),)}, ["presets[p].scopes[0]"]),
        ({"presets": (PresetDeclaration(name="p:q", scopes=("*",)),)}, ["presets[p:q]"]),
        ({"key_types": ()}, ["key_types"]),
        ({"key_types": (KeyTypeDeclaration(name="K"),)}, ["key_types[K]"]),
        (
            {"key_types": (KeyTypeDeclaration(name="k", scope_cap=("scan:*", "x:*")),)},
            ["key_types[k].scope_cap[1]"],
        ),
        (
            {"key_types": (KeyTypeDeclaration(name="k", marker="{}"),)},
            ["key_types[k].marker"],
        ),
        ({"environments": ()}, ["environments"]),
        (
            {"environments": (EnvironmentDeclaration(name="e"), EnvironmentDeclaration(name="e"))},
            ["environments[e]"],
        ),
        ({"defaults": KeyDefaults(preset="p")}, ["defaults.preset"]),
        ({"defaults": KeyDefaults(key_type="p")}, ["defaults.key_type"]),
        ({"defaults": KeyDefaults(environment="p")}, ["defaults.environment"]),
        ({"defaults": KeyDefaults(lifetime=timedelta(0))}, ["defaults.lifetime"]),
        ({"max_lifetime": timedelta(days=-1)}, ["max_lifetime"]),
        ({"max_lifetime": timedelta(days=36_501)}, ["max_lifetime"]),
        ({"max_lifetime": timedelta(milliseconds=500)}, ["max_lifetime"]),
        ({"max_lifetime": timedelta(seconds=1, microseconds=1)}, ["max_lifetime"]),
        (
            {
                "max_lifetime": timedelta(days=1),
                "defaults": KeyDefaults(lifetime=timedelta(days=2)),
            },
            ["defaults.lifetime"],
        ),
    ],
    ids=str,
)
def test_what_contradicts_itself_is_refused_at_its_place(
    fields: dict[str, Any], paths: list[str]
) -> None:
    with pytest.raises(InvalidDeclaration) as caught:
        keyspace_with(**fields)
    assert [problem.where for problem in caught.value.problems] == paths


def test_everything_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(InvalidDeclaration) as caught:
        keyspace_with(
            name="-",
            presets=(PresetDeclaration(name="p", scopes=("scan:raed",)),),
            defaults=KeyDefaults(preset="q"),
        )
    found = {problem.where: problem.message for problem in caught.value.problems}
    assert found.keys() == {"name", "presets[p].scopes[0]", "defaults.preset"}
    assert 'did you mean "scan:read"?' in found["presets[p].scopes[0]"]


def test_the_built_in_keyspace_lets_writing_imply_reading() -> None:
    catalog = SYSTEM_KEYSPACE.catalog
    assert catalog.names_in(catalog.mask(["keys:write"])) == ("keys:read", "keys:write")
    assert catalog.names_in(catalog.mask(["keyspaces:write"])) == (
        "keys:read",
        "keys:write",
        "keyspaces:read",
        "keyspaces:write",
    )
    assert catalog.names_in(catalog.mask(["keys:check"])) == ("keys:check",)
