"""Keyspace files: YAML that people write, and faults that point at the line.

A fault is found in one of three places, and shown in the same way: by the YAML
reader, by the domain's own rules, which need no server, and by the server, whose
field violations carry the same paths as the domain's problems.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from keyfence_server.cli.source_text import Fault, Source, Span, in_order
from keyfence_server.cli.yaml_source import Part, YamlFaults, parse_yaml
from keyfence_server.domain.declarations import KeyspaceDeclaration
from keyfence_server.domain.documents import declaration_from_document, declaration_to_document
from keyfence_server.domain.errors import InvalidDeclaration, Problem
from keyfence_server.domain.keyspaces import Keyspace, compile_keyspace

STANDARD_INPUT: Final = "-"
MAX_FILE_SIZE: Final = 2 * 1024 * 1024

_UNKNOWN_FIELD: Final = "there is no such field"
_STEP: Final = re.compile(r"\.[^.\[]+|\[[^\]]*\]")
_SCOPE_OF_LEVEL: Final = re.compile(r"scopes\[(?P<resource>.*):(?P<level>[^:\]]*)\]")

# Where the API's names differ from the file's.
_RENAMED: Final = (
    (re.compile(r"^keyspace\.(?=.)"), ""),
    (re.compile(r"^name$"), "keyspace"),
    (re.compile(r"^format\.templates_by_key_type"), "format.templates"),
)


class InvalidKeyspaceFile(Exception):
    """A file says something that cannot be. `faults` names every place, in order."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults: Sequence[Fault] = in_order(faults)
        super().__init__("\n".join(fault.render() for fault in self.faults))


@dataclass(frozen=True, slots=True)
class KeyspaceFile:
    """A file whose declaration is sound as far as can be told without a server."""

    source: Source
    root: Part
    keyspace: Keyspace

    @property
    def declaration(self) -> KeyspaceDeclaration:
        """What the file says."""
        return self.keyspace.declaration

    def faults(self, problems: Iterable[Problem]) -> InvalidKeyspaceFile:
        """What the server, or the domain, found wrong, at its place in the file."""
        return InvalidKeyspaceFile(_fault(self.source, self.root, p) for p in problems)


def read_keyspace_file(name: str) -> KeyspaceFile:
    """Reads a file, or standard input for "-".

    Raises:
        OSError: the file cannot be read.
        InvalidKeyspaceFile: it can, and says something that cannot be.
    """
    if name == STANDARD_INPUT:
        return keyspace_file_from(sys.stdin.buffer.read(MAX_FILE_SIZE + 1), name="<stdin>")
    with Path(name).open("rb") as file:
        return keyspace_file_from(file.read(MAX_FILE_SIZE + 1), name=name)


def keyspace_file_from(content: bytes, *, name: str) -> KeyspaceFile:
    """Reads a file's content. Raises `InvalidKeyspaceFile`."""
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
    try:
        root = parse_yaml(source)
    except YamlFaults as error:
        raise InvalidKeyspaceFile(error.faults) from None
    try:
        keyspace = compile_keyspace(declaration_from_document(root.data))
    except InvalidDeclaration as error:
        raise InvalidKeyspaceFile(_fault(source, root, p) for p in error.problems) from None
    return KeyspaceFile(source, root, keyspace)


def write_keyspace_document(declaration: KeyspaceDeclaration) -> str:
    """The declaration as a file that reads as the same declaration again."""
    document = declaration_to_document(declaration)
    blocks = (
        yaml.dump(
            {name: value},
            Dumper=_Dumper,
            sort_keys=False,
            allow_unicode=True,
            width=96,
            default_flow_style=False,
        )
        for name, value in document.items()
    )
    return _spaced(blocks)


def _spaced(blocks: Iterable[str]) -> str:
    """Blocks of several lines stand apart; single lines stand together."""
    text = ""
    previous_was_long = False
    for block in blocks:
        long = block.count("\n") > 1
        if text and (long or previous_was_long):
            text += "\n"
        text += block
        previous_was_long = long
    return text


class _Dumper(yaml.SafeDumper):
    """Writes lists of names on one line, and quotes whatever some YAML reader could take for
    something else than text."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _represent_list(dumper: _Dumper, data: list[object]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)


def _represent_text(dumper: _Dumper, text: str) -> yaml.Node:
    # PyYAML takes some line breaks of Unicode for its own, and loses them in other styles.
    style = '"' if any(character in text for character in "\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(str, _represent_text)


def _fault(source: Source, root: Part, problem: Problem) -> Fault:
    path = problem.path
    for pattern, replacement in _RENAMED:
        path = pattern.sub(replacement, path)
    # A path that ends in a thing's name is about the thing, not about its description.
    about_the_name = path.endswith("]") or problem.message.startswith(_UNKNOWN_FIELD)
    span, rest = _locate(root, path, about_the_name)
    if rest and (level := _SCOPE_OF_LEVEL.match(path)):
        # The scopes of a resource's levels have no place under `scopes`.
        of_level = f"resources[{level['resource']}].levels[{level['level']}]"
        span, rest = _locate(root, of_level, about_the_name)
    message = f"{path}: {problem.message}" if rest or not path else problem.message
    return Fault(source, span, message)


def _locate(root: Part, path: str, about_the_name: bool) -> tuple[Span | None, str]:
    """The place of what a path names, and the rest of the path, which names nothing.

    What is written in a short form, so as text or a list instead of a mapping, lacks
    steps that the path has; they are passed over.
    """
    part, span, rest = root, None, f".{path}"
    while rest:
        step = next(_steps(part, rest), None)
        if step is not None:
            rest = rest[step.length :]
            part = step.leads_to
            is_text = not isinstance(part.data, dict | list)
            span = part.span if is_text and not (about_the_name and not rest) else step.name_span
        elif not isinstance(part.data, dict) and (passed := _STEP.match(rest)):
            rest = rest[passed.end() :]
        else:
            break
    return span, rest


@dataclass(frozen=True, slots=True)
class _Step:
    """How the start of a path leads on: by so many characters of it, to this part."""

    length: int
    leads_to: Part
    name_span: Span


def _steps(part: Part, path: str) -> Iterator[_Step]:
    """The steps that the start of the path could mean here, the longest first: a name may
    itself hold what looks like the end of a step."""
    by_length = sorted(part.entries, key=lambda entry: -len(entry.name))
    named = [(entry.name, entry.value, entry.name_span) for entry in by_length]
    listed = [(str(item.data), item, item.span) for item in part.items]
    indexed = [(str(index), item, item.span) for index, item in enumerate(part.items)]
    for name, leads_to, span in (*named, *indexed, *listed):
        for written in (f".{name}", f"[{name}]"):
            if path == written or path.startswith((f"{written}.", f"{written}[")):
                yield _Step(len(written), leads_to, span)
