"""Declarations as documents: what is written is read again, and faults are named by place."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.declarations import declarations
from domain.graphs import brief
from keyfence_server.domain.declarations import (
    DEFAULT_FORMAT,
    KeyspaceDeclaration,
    LevelDeclaration,
    PresetDeclaration,
    ResourceDeclaration,
    ScopeDeclaration,
)
from keyfence_server.domain.documents import (
    declaration_from_document,
    declaration_to_document,
    format_from_document,
    format_to_document,
)
from keyfence_server.domain.durations import format_duration, parse_duration
from keyfence_server.domain.errors import InvalidDeclaration
from keyfence_server.domain.keyspaces import compile_keyspace


def problems_of(document: object) -> dict[str, str]:
    with pytest.raises(InvalidDeclaration) as caught:
        declaration_from_document(document)
    return {problem.where: problem.message for problem in caught.value.problems}


@brief
@given(declarations())
def test_whatever_may_be_applied_comes_back_from_the_store_as_it_was(
    declaration: KeyspaceDeclaration,
) -> None:
    """What is lost on the way would change at every apply; what cannot be read again would
    make all keyspaces unreadable."""
    keyspace = compile_keyspace(declaration)
    document = json.loads(json.dumps(declaration_to_document(declaration)))
    assert declaration_from_document(document) == declaration
    assert compile_keyspace(declaration_from_document(document)) == keyspace
    for form in keyspace.forms.values():
        written = json.loads(json.dumps(format_to_document(form.as_declaration())))
        assert format_from_document(written) == form.as_declaration()


@brief
@given(st.integers(1, 36_500 * 86_400))
def test_every_lifetime_of_whole_seconds_can_be_written_and_read(seconds: int) -> None:
    duration = timedelta(seconds=seconds)
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    "text", ["", "90", "d", "-1d", "1.5h", "90 d", "1w", "1h30m", "٣d", "9d\n"]
)
def test_what_is_no_duration_is_not_guessed(text: str) -> None:
    assert parse_duration(text) is None


def test_short_forms_mean_what_the_long_ones_say() -> None:
    short = {
        "keyspace": "acme",
        "scopes": {"vps:read": "Look", "vps:write": {"implies": "vps:read"}, "dns": None},
        "resources": {"backups": ["read", "write"], "logs": "read"},
        "presets": {"full": ["*"], "look": "vps:read"},
        "environments": ["live", "test"],
        "max_lifetime": "90d",
    }
    declaration = declaration_from_document(short)
    assert declaration.scopes == (
        ScopeDeclaration(name="vps:read", description="Look"),
        ScopeDeclaration(name="vps:write", implies=("vps:read",)),
        ScopeDeclaration(name="dns"),
    )
    assert declaration.resources == (
        ResourceDeclaration(
            name="backups",
            levels=(LevelDeclaration(name="read"), LevelDeclaration(name="write")),
        ),
        ResourceDeclaration(name="logs", levels=(LevelDeclaration(name="read"),)),
    )
    assert declaration.presets == (
        PresetDeclaration(name="full", scopes=("*",)),
        PresetDeclaration(name="look", scopes=("vps:read",)),
    )
    assert [one.name for one in declaration.environments] == ["live", "test"]
    assert declaration.max_lifetime == timedelta(days=90)
    assert declaration.format == DEFAULT_FORMAT
    assert [kind.name for kind in declaration.key_types] == ["secret"]


@pytest.mark.parametrize("document", [[], "acme", 3, True])
def test_a_document_that_is_not_a_mapping_is_refused_as_a_whole(document: object) -> None:
    assert "a mapping is needed here" in problems_of(document)[""]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"keyspace": None}, "keyspace"),
        ({"name": "acme"}, "name"),
        ({"keyspace": ""}, "keyspace"),
        ({"keyspace": 7}, "keyspace"),
        ({"display_name": ["a"]}, "display_name"),
        ({"scope": {}}, "scope"),
        ({3: "x"}, "3"),
        ({"format": "kf_{body}"}, "format"),
        ({"format": {"template": 1}}, "format.template"),
        ({"format": {"body": []}}, "format.body"),
        ({"format": {"body": {"length": "24"}}}, "format.body.length"),
        ({"format": {"body": {"length": True}}}, "format.body.length"),
        ({"format": {"body": {"length": 2.5}}}, "format.body.length"),
        ({"format": {"body": {"length": 2**40}}}, "format.body.length"),
        ({"format": {"body": {"size": 24}}}, "format.body.size"),
        ({"format": {"templates": ["x"]}}, "format.templates"),
        ({"format": {"templates": {"secret": 1}}}, "format.templates.secret"),
        ({"scopes": "vps:read"}, "scopes"),
        ({"scopes": ["vps:read", 3]}, "scopes[1]"),
        ({"scopes": ["a", "a"]}, "scopes"),
        ({"scopes": {3: "x"}}, "scopes"),
        ({"scopes": {"a": 3}}, "scopes[a]"),
        ({"scopes": {"a": ["b"]}}, "scopes[a]"),
        ({"scopes": {"a": {"implies": 3}}}, "scopes[a].implies"),
        ({"scopes": {"a": {"implies": ["b", 3]}}}, "scopes[a].implies[1]"),
        ({"scopes": {"a": {"imply": ["b"]}}}, "scopes[a].imply"),
        ({"resources": {"r": {"levels": ["read", None]}}}, "resources[r].levels[1]"),
        ({"resources": {"r": {"levels": {"read": {"x": 1}}}}}, "resources[r].levels[read].x"),
        ({"presets": {"p": {"scopes": {"a": 1}}}}, "presets[p].scopes"),
        ({"key_types": {"k": {"manages_keys": "yes"}}}, "key_types[k].manages_keys"),
        ({"key_types": {"k": {"scope_cap": [1]}}}, "key_types[k].scope_cap[0]"),
        ({"environments": ["live", 3]}, "environments[1]"),
        ({"environments": {"live": {"marker": 1}}}, "environments[live].marker"),
        ({"defaults": ["live"]}, "defaults"),
        ({"defaults": {"lifetime": "long"}}, "defaults.lifetime"),
        ({"defaults": {"lifetime": 90}}, "defaults.lifetime"),
        ({"max_lifetime": "90"}, "max_lifetime"),
    ],
    ids=str,
)
def test_what_stands_in_the_wrong_place_is_named_by_its_path(
    fields: dict[Any, Any], path: str
) -> None:
    assert list(problems_of({"keyspace": "acme", **fields})) == [path]


def test_everything_that_is_wrong_is_named_at_once() -> None:
    found = problems_of({"scopes": 3, "formt": {}, "defaults": {"prest": "x", "lifetime": "x"}})
    assert found.keys() == {"keyspace", "scopes", "formt", "defaults.prest", "defaults.lifetime"}
    assert found["formt"].endswith('did you mean "format"?')
    assert found["defaults.prest"].endswith('did you mean "preset"?')
