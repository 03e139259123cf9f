"""A field of the keyspace language stands in the proto, in the declaration's class and on the
page, and nowhere else."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

from google.protobuf.descriptor import Descriptor

from keyfence.v1 import keyspace_pb2
from keyfence_server.domain.declarations import KeyspaceDeclaration
from keyfence_server.domain.declared_types import (
    NAME_IN_DOCUMENT,
    Section,
    names_in_documents,
)

OUTPUT_ONLY: Final = {"revision", "create_time", "update_time", "previous_formats"}
PAGES: Final = tuple(
    Path(__file__).parents[2] / "docs" / name for name in ("keyspaces.md", "http.md", "accounts.md")
)


def sections(hint: Any) -> Iterator[type]:
    if isinstance(hint, type) and issubclass(hint, Section):
        yield hint
    for part in get_args(hint):
        yield from sections(part)


def declared(section: type) -> Iterator[tuple[str, type | None]]:
    """The fields of a section with the section that each holds."""
    for name, hint in get_type_hints(section).items():
        if name in {field.name for field in dataclasses.fields(section)}:
            yield name, next(sections(hint), None)


def compared(section: type, message: Descriptor) -> Iterator[str]:
    """What stands in only one of a class and its message, at any depth."""
    of_message = {field.name for field in message.fields}
    of_class = dict(declared(section))
    if section is KeyspaceDeclaration:
        of_message -= OUTPUT_ONLY
    yield from (f"{message.name}.{name}" for name in of_message ^ of_class.keys())
    for name in of_message & of_class.keys():
        inner = of_class[name]
        if inner is not None:
            kind = message.fields_by_name[name].message_type
            assert kind is not None
            yield from compared(inner, kind)


def test_the_declaration_has_the_fields_of_the_proto_and_no_others() -> None:
    assert list(compared(KeyspaceDeclaration, keyspace_pb2.Keyspace.DESCRIPTOR)) == []


def test_every_field_is_on_the_page() -> None:
    told: set[str] = set()
    for page in PAGES:
        prose, *fenced = re.split(r"^```", page.read_text(), flags=re.MULTILINE)
        for index, part in enumerate([prose, *fenced]):
            patterns = r"(\w+):" if index % 2 else r"`[^`]*?(\w+)`"
            told.update(re.findall(patterns, part))

    def names(section: type) -> Iterator[str]:
        yield from (name for name in names_in_documents(section) if name != NAME_IN_DOCUMENT)
        for _, inner in declared(section):
            if inner is not None:
                yield from names(inner)

    assert set(names(KeyspaceDeclaration)) - told == set()
