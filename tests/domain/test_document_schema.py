"""The JSON Schema of keyspace files accepts what is read, and refuses wrong names and types."""

from __future__ import annotations

from typing import Any, Final

import pytest
import yaml

from docs.pages import ROOT, blocks, read
from keyfence_server.domain.declarations import KeyspaceDeclaration
from keyfence_server.domain.declared_types import NAME_IN_DOCUMENT, names_in_documents
from keyfence_server.domain.documents import (
    declaration_from_document,
    declaration_to_document,
    schema_of_documents,
)
from keyfence_server.domain.errors import InvalidDeclaration

SCHEMA: Final[dict[str, Any]] = schema_of_documents()


@pytest.fixture(scope="module")
def validator() -> Any:
    # Importing the validator compiles 38 grammars, which collecting the tests should not wait for.
    from jsonschema import Draft202012Validator  # noqa: PLC0415

    Draft202012Validator.check_schema(SCHEMA)
    return Draft202012Validator(SCHEMA)


def is_read(document: object) -> bool:
    """Whether it is a keyspace. The pages also show some that are wrong."""
    try:
        declaration_from_document(document)
    except InvalidDeclaration:
        return False
    return True


DOCUMENTS: Final = [
    *(yaml.safe_load(path.read_text()) for path in (ROOT / "examples/keyspaces").glob("*.yaml")),
    *(
        document
        for page in ("keyspaces", "accounts", "http", "limits")
        for document in map(yaml.safe_load, blocks(read(f"docs/{page}.md"), "yaml"))
        if is_read(document)
    ),
]


def test_it_is_a_schema_and_knows_every_field(validator: Any) -> None:
    assert validator.is_valid({"keyspace": "demo"})
    assert SCHEMA["properties"].keys() == names_in_documents(KeyspaceDeclaration).keys()
    assert SCHEMA["required"] == ["keyspace"]
    assert NAME_IN_DOCUMENT not in str(SCHEMA)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: one["keyspace"])
def test_what_is_read_is_accepted_as_it_is_written_too(
    document: dict[str, Any], validator: Any
) -> None:
    validator.validate(document)
    validator.validate(declaration_to_document(declaration_from_document(document)))


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"scope": {}},
        {"scopes": {"vps:read": {"implied": []}}},
        {"scopes": {"vps:read": 1}},
        {"presets": {"all": {"scopes": 5}}},
        {"max_lifetime": 90},
        {"limits": {"per_key": 60}},
        {"http": {"answers": {"scope_missing": {"status": "403"}}}},
        {"key_types": {"secret": {"(name)": "x"}}},
    ],
    ids=str,
)
def test_what_is_not_read_is_refused(wrong: dict[str, Any], validator: Any) -> None:
    document = {"keyspace": "demo", **wrong} if wrong else {}
    assert not validator.is_valid(document)
