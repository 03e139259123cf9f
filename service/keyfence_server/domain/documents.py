"""Declarations as documents: plain data, as a keyspace file holds it and the store keeps it.

What a document may hold is said by the types in `declarations`. Reading names every wrong
name and type at once; whether the declaration makes sense is for
`keyspaces.compile_keyspace`. Reading what was written gives an equal declaration.

Pydantic does the reading. It does no I/O, and the language belongs to the domain: an
adapter that validated with models of its own would state every field a second time.
"""

from __future__ import annotations

import difflib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar, cast, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from keyfence_server.domain.declarations import FormatDeclaration, KeyspaceDeclaration
from keyfence_server.domain.declared_types import (
    NAME_IN_DOCUMENT,
    Section,
    kind_of,
    names_in_documents,
    sections_in,
)
from keyfence_server.domain.errors import InvalidDeclaration, Name, Path, Problem

Document = dict[str, object]
Declared = TypeVar("Declared", KeyspaceDeclaration, FormatDeclaration)

_KEYSPACES: Final = TypeAdapter(KeyspaceDeclaration)
_FORMATS: Final = TypeAdapter(FormatDeclaration)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_SCOPES_AT_ONCE: Final = 200
_MAX_PROBLEMS: Final = 100
_SHOWN: Final = 100

_NEEDED: Final[Mapping[str, str]] = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "dataclass_type": "a mapping",
    "dict_type": "a mapping by name",
    "mapping_type": "a mapping by name",
}


def declaration_from_document(document: object) -> KeyspaceDeclaration:
    """Reads a keyspace's document.

    Raises:
        InvalidDeclaration: with every field that has a wrong name, type or form.
    """
    return _read(_KEYSPACES, KeyspaceDeclaration, document)


def declaration_to_document(declaration: KeyspaceDeclaration) -> Document:
    """Writes a declaration as a document of JSON types, without what is empty."""
    document: Document = _KEYSPACES.dump_python(declaration, by_alias=True, mode="json")
    return document


def declaration_to_json(declaration: KeyspaceDeclaration) -> str:
    """Writes the document of a declaration as JSON.

    Other threads of Python go on meanwhile, which they could not while pydantic wrote a large one.
    """
    document = declaration_to_document(replace(declaration, scopes=()))
    scopes: Document = {}
    for start in range(0, len(declaration.scopes), _SCOPES_AT_ONCE):
        some = declaration.scopes[start : start + _SCOPES_AT_ONCE]
        part = declaration_to_document(KeyspaceDeclaration(name=declaration.name, scopes=some))
        scopes |= cast("Document", part["scopes"])
    if scopes:
        document["scopes"] = scopes
    return "".join(_ENCODER.iterencode(document))


def declaration_from_json(text: str) -> KeyspaceDeclaration:
    """Reads what `declaration_to_json` wrote, and lets other threads go on. Raises
    `InvalidDeclaration`."""
    return declaration_from_document(json.loads(text, object_hook=_unchanged))


def _unchanged(mapping: Document) -> Document:
    """A call of Python for each object of a JSON text: only between two calls can Python change to
    another thread."""
    return mapping


def schema_of_documents() -> Document:
    """The JSON Schema of a keyspace's document, by which an editor completes and checks names.

    It says which fields there are and of which types. Whether a declaration makes sense is for
    `keyspaces.compile_keyspace`.
    """
    schema: Document = _KEYSPACES.json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A keyspace of Keyfence",
        **_for_editors(schema),
    }


def _for_editors(schema: Document) -> Document:
    """The schema without what only Python's classes say: titles, defaults, details in
    docstrings, and the field for the name that an item has as its key."""
    kept: Document = {}
    for key, value in schema.items():
        match key, value:
            case "title" | "default", _:
                pass
            case "properties" | "$defs", dict():
                kept[key] = {
                    name: _for_editors(one)
                    for name, one in value.items()
                    if name != NAME_IN_DOCUMENT
                }
            case "required", list():
                kept[key] = [name for name in value if name != NAME_IN_DOCUMENT]
            case "description", str():
                kept[key] = re.split(r"\. ?See `|\n\n", value)[0]
            case _, dict():
                kept[key] = _for_editors(value)
            case "anyOf", list():
                kept[key] = [_for_editors(one) for one in value]
            case _:
                kept[key] = value
    return kept


def format_from_document(document: object) -> FormatDeclaration:
    """Reads what `format_to_document` wrote. Raises `InvalidDeclaration`."""
    return _read(_FORMATS, FormatDeclaration, document)


def format_to_document(declaration: FormatDeclaration) -> Document:
    """Writes a key format as a document of JSON types."""
    document: Document = _FORMATS.dump_python(declaration, by_alias=True, mode="json")
    return document


def declaration_from_fields(fields: Mapping[str, object]) -> KeyspaceDeclaration:
    """Reads a declaration whose fields have the names of `KeyspaceDeclaration` and its parts,
    which are those of the API. Lists are tuples. Raises `InvalidDeclaration`."""
    return _read_fields(_KEYSPACES, fields)


def format_from_fields(fields: Mapping[str, object]) -> FormatDeclaration:
    """Reads a key format as `declaration_from_fields` does. Raises `InvalidDeclaration`."""
    return _read_fields(_FORMATS, fields)


def _read_fields(adapter: TypeAdapter[Declared], fields: Mapping[str, object]) -> Declared:
    try:
        return adapter.validate_python(fields, by_alias=False, by_name=True)
    except ValidationError as error:
        raise InvalidDeclaration(
            [Problem(_path(one["loc"], fields), _message(one)) for one in _errors(error)]
        ) from None


def path_in_document(path: Path) -> Path:
    """A declaration's path with the names that a document has for its fields."""
    steps: list[str | int] = []
    section: type[Section] | None = KeyspaceDeclaration
    for step in path:
        if section is None or isinstance(step, int | Name):
            steps.append(step)
            continue
        names = {name: written for written, name in names_in_documents(section).items()}
        steps.append(names.get(step, step))
        section = next(sections_in(get_type_hints(section).get(step)), None)
    return tuple(steps)


def _read(adapter: TypeAdapter[Declared], section: type[Section], document: object) -> Declared:
    try:
        return adapter.validate_python(document, by_alias=True, by_name=False)
    except ValidationError as error:
        raise InvalidDeclaration(_problems(_errors(error), section, document)) from None


def _errors(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False)[:_MAX_PROBLEMS]


def _problems(
    errors: Sequence[ErrorDetails], section: type[Section], document: object
) -> list[Problem]:
    problems: list[Problem] = []
    meant: set[Path] = set()
    for error in errors:
        if error["type"] in {"unexpected_keyword_argument", "invalid_key"}:
            name = str(error["loc"][-1])[:_SHOWN]
            known = names_in_documents(_section_at(error["loc"], section))
            nearest = _nearest(name, known)
            hint = (
                f'did you mean "{nearest}"?' if nearest else f"known: {', '.join(_fields(known))}"
            )
            path = (*_path(error["loc"][:-1], document), name)
            problems.append(Problem(path, f'"{name}" is not a field here; {hint}', is_of_name=True))
            if nearest:
                meant.add((*path[:-1], nearest))
        else:
            problems.append(Problem(_path(error["loc"], document), _message(error)))
    # A required field is there after all, under a wrong name.
    return [one for one in problems if one.path not in meant or one.message != _MISSING]


_MISSING: Final = "is missing"


def _message(error: ErrorDetails) -> str:
    value, where = error["input"], error["loc"]
    if where and where[-1] == NAME_IN_DOCUMENT:
        if error["type"] == "missing":
            return "a name is missing here"
        return f"the name {value!r:.50} must be text; put it in quotes"
    if (needed := _NEEDED.get(error["type"])) is not None:
        return f"{needed} is needed here, not {kind_of(value)}"
    match error["type"]:
        case "missing":
            return _MISSING
        case "string_too_short":
            return "is empty"
        case "less_than":
            return f"this number is too large; the maximum is {error['ctx']['lt'] - 1}"
        case "greater_than_equal":
            return f"this number is too small; the minimum is {error['ctx']['ge']}"
        case "enum":
            return f"{error['ctx']['expected'].replace(chr(39), '')} is needed here"
        case "value_error":
            return str(error["ctx"]["error"])
    return error["msg"]


def _path(where: Sequence[str | int], document: object) -> Path:
    """The place of an error: pydantic numbers the items of a mapping, which have names."""
    path: list[str | int] = []
    here = document
    for step in where:
        if step == NAME_IN_DOCUMENT:
            if path and isinstance(path[-1], Name):
                path.pop()
            break
        if isinstance(step, int) and isinstance(here, Mapping):
            name, here = next(itertools.islice(here.items(), step, None))
            path.append(Name(str(name)[:_SHOWN]))
        elif isinstance(step, int) and isinstance(here, list | tuple):
            here = here[step]
            path.append(step)
        else:
            path.append(step if isinstance(step, int) else step[:_SHOWN])
            here = here.get(step) if isinstance(here, Mapping) else here
    return tuple(path)


def _section_at(where: Sequence[str | int], section: type[Section]) -> type[Section]:
    """The section whose field an error names last."""
    for step in where[:-1]:
        if isinstance(step, str):
            hint = get_type_hints(section)[names_in_documents(section)[step]]
            section = next(sections_in(hint))
    return section


def _nearest(name: str, known: Mapping[str, str]) -> str | None:
    """The field that was probably meant: the one that the API calls so, or the most similar."""
    for in_documents, in_api in known.items():
        if in_api == name and in_documents != NAME_IN_DOCUMENT:
            return in_documents
    nearest = difflib.get_close_matches(name, _fields(known), n=1)
    return nearest[0] if nearest else None


def _fields(known: Mapping[str, str]) -> list[str]:
    return [name for name in known if name != NAME_IN_DOCUMENT]
