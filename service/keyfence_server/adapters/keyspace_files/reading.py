"""Reading a file: from bytes to a valid keyspace, or to every fault in the file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from keyfence_server.adapters.keyspace_files.places import fault_at, paths_by_text
from keyfence_server.adapters.keyspace_files.source_text import Fault, InvalidKeyspaceFile, Source
from keyfence_server.adapters.keyspace_files.yaml_source import YamlDocument, parse_yaml
from keyfence_server.domain.declarations import KeyspaceDeclaration
from keyfence_server.domain.documents import declaration_from_document
from keyfence_server.domain.errors import InvalidDeclaration, Problem
from keyfence_server.domain.keyspaces import Keyspace, compile_keyspace

MAX_FILE_SIZE: Final = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class KeyspaceFile:
    """A file whose declaration is valid as far as can be told without a server."""

    source: Source
    document: YamlDocument
    keyspace: Keyspace

    @property
    def declaration(self) -> KeyspaceDeclaration:
        """What the file says."""
        return self.keyspace.declaration

    def faults(self, violations: Iterable[tuple[str, str]]) -> InvalidKeyspaceFile:
        """What a server found wrong, at its place in the file.

        Args:
            violations: fields of the request, and what is wrong with each.
        """
        paths = paths_by_text(self.declaration)
        return InvalidKeyspaceFile(
            fault_at(self.source, self.document, Problem(paths.get(name, (name,)), message))
            for name, message in (
                (field.removeprefix("keyspace."), message) for field, message in violations
            )
        )


def read_keyspace_file(path: Path) -> KeyspaceFile:
    """Reads a file.

    Raises:
        OSError: it cannot be read.
        InvalidKeyspaceFile: it was read and is wrong.
    """
    with path.open("rb") as file:
        return parse_keyspace_file(file.read(MAX_FILE_SIZE + 1), name=str(path))


def parse_keyspace_file(content: bytes, *, name: str) -> KeyspaceFile:
    """Reads what is in a file, or came from elsewhere, such as standard input.

    Args:
        content: of more than `MAX_FILE_SIZE` bytes, it is refused unread.
        name: what to call the file in faults.

    Raises:
        InvalidKeyspaceFile: the file is wrong.
    """
    if len(content) > MAX_FILE_SIZE:
        raise InvalidKeyspaceFile(
            [Fault(Source(name, ""), None, f"a file has at most {MAX_FILE_SIZE // 2**20} MiB")]
        )
    try:
        source = Source(name, content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        before = Source(name, content[: error.start].decode(errors="replace"))
        place = before.span_at(len(before.text))
        raise InvalidKeyspaceFile([Fault(before, place, "the text is not UTF-8")]) from None
    document = parse_yaml(source)
    try:
        keyspace = compile_keyspace(declaration_from_document(document.data))
    except InvalidDeclaration as error:
        raise InvalidKeyspaceFile(fault_at(source, document, p) for p in error.problems) from None
    return KeyspaceFile(source, document, keyspace)
