"""docs/systems.md names a test for each sentence, and a field of the API for each of a
product's own: they must be there, by these names."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from docs.pages import ROOT, code, read, rows, section

PAGE: Final = read("docs/systems.md")
MAPPING: Final = section(PAGE, "## Management JSON, field by field")
_NAMED: Final = re.compile(r"`([a-z_]+/[a-z_0-9]+\.py)::([A-Za-z_0-9:]+)`")
_OPERATION: Final = re.compile(r"`(GET|POST|DELETE) ([^?`]+)(?:\?([a-zA-Z]+)=([A-Z_]+))?`")
_FIELD: Final = re.compile(r"[a-z][A-Za-z.\[\]]*")

FIELDS_OF_THE_PAGES: Final = {
    "email",
    "password",
    "name",
    *(f"data.{name}" for name in ("id", "email", "name", "plan", "createdAt")),
    *(f"data.{name}" for name in ("token", "expiresAt", "user.id", "user.email", "user.plan")),
    *(f"meta.{name}" for name in ("requestId", "timestamp")),
    *("type", "environment"),
    *(f"data.{name}" for name in ("type", "environment", "key")),
    *(f"data[].{name}" for name in ("id", "name", "type", "environment")),
    *(f"data[].{name}" for name in ("prefix", "lastUsedAt", "createdAt")),
    *("id", "fullKey", "prefix", "createdAt"),
}


def names_in(path: Path) -> set[str]:
    """The names of a file's tests, with their classes."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {
            prefix + one.name
            for one in members
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
        }
    return found


def test_every_test_that_the_page_names_exists() -> None:
    named = _NAMED.findall(PAGE)

    assert len(named) > 80
    for file, test in named:
        assert test in names_in(ROOT / "tests" / file), f"{file} has no {test}"


def test_every_row_of_a_system_names_a_test() -> None:
    for row in rows(PAGE.partition("## Management JSON")[0]):
        assert _NAMED.search(row[2]), row


class Operation:
    """One operation of Keyfence's REST, as the generated OpenAPI document has it."""

    def __init__(self, document: Any, method: str, path: str) -> None:
        self._schemas = document["components"]["schemas"]
        self._operation = document["paths"][path][method.lower()]

    def parameter(self, name: str) -> Any:
        """The schema of a parameter in the query."""
        parameters = {one["name"]: one["schema"] for one in self._operation["parameters"]}
        return self._resolved(parameters[name])

    def has(self, field: str) -> bool:
        """Whether it is in the request or in the answer: "key.keyId", "keys[].keyId"."""
        answer = self._operation["responses"]["200"]["content"]["application/json"]["schema"]
        body = self._operation.get("requestBody")
        schemas = [answer] + ([body["content"]["application/json"]["schema"]] if body else [])
        named = {one["name"] for one in self._operation.get("parameters", ())}
        return field in named or any(self._found(schema, field) for schema in schemas)

    def _found(self, schema: Any, field: str) -> bool:
        for part in field.split("."):
            schema = self._resolved(schema).get("properties", {}).get(part.removesuffix("[]"))
            if schema is None or part.endswith("[]") != (schema.get("type") == "array"):
                return False
            schema = schema.get("items", schema)
        return True

    def _resolved(self, schema: Any) -> Any:
        name = schema.get("$ref", "").rpartition("/")[2]
        return self._schemas[name] if name else schema


def mapped() -> Iterator[tuple[Operation, str]]:
    """The fields of Keyfence in the mappings, each with the operation that it stands under."""
    document = json.loads(
        files("keyfence_server.gateway").joinpath("openapi.json").read_text(encoding="utf-8")
    )
    operation: Operation | None = None
    for _, ours in rows(MAPPING):
        if found := _OPERATION.match(ours):
            operation = Operation(document, found[1], found[2])
            if found[3]:
                assert found[4] in operation.parameter(found[3])["enum"], ours
        elif "header" not in ours:
            assert operation is not None
            for field in code(ours):
                assert _FIELD.fullmatch(field), field
                yield operation, field


def test_every_field_of_a_mapping_is_one_of_the_api() -> None:
    fields = list(mapped())

    assert len(fields) > 40
    for operation, field in fields:
        assert operation.has(field), field
    assert not fields[0][0].has("account.accountID"), "the test would find anything"


def test_every_field_of_the_pages_is_mapped() -> None:
    theirs = {field for row in rows(MAPPING) for field in code(row[0])}

    assert theirs >= FIELDS_OF_THE_PAGES
