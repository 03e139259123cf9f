"""YAML read into plain data, with the place of every part of it.

Only what a declaration needs is read: mappings, lists, text, whole numbers, true, false and
nothing. Names are always text: a scope called "on" or "12:30" keeps its name. Anchors, aliases,
tags and further documents are refused, and so are names that stand twice and deep nesting: a file
from a stranger must neither surprise nor exhaust the reader.

It knows nothing of what a keyspace declares.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from keyfence_server.adapters.keyspace_files.source_text import (
    Fault,
    InvalidKeyspaceFile,
    Source,
    Span,
)

MAX_DEPTH: Final = 16

_WHOLE_NUMBER: Final = re.compile(r"-?[0-9]{1,15}")
_CONSTANTS: Final[dict[str, object]] = {
    "": None,
    "~": None,
    "null": None,
    "true": True,
    "false": False,
}


Path = tuple[str | int, ...]
"""The names and indexes that lead to a part of a document from its root."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a part of a document stands.

    Attributes:
        name: the part's name in its mapping; None for the root and for items of lists.
        value: the part itself, as far as it goes on its first line.
        kind: the part's type: dict, list, or that of a scalar.
    """

    name: Span | None
    value: Span
    kind: type


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """A document as plain data, and the place of every part of it by its path."""

    data: object
    places: Mapping[Path, Place]


def parse_yaml(source: Source) -> YamlDocument:
    """Reads a text that holds one document.

    Raises:
        InvalidKeyspaceFile: it is not YAML, holds what is refused, or says a name twice.
    """
    try:
        node = _Loader(source).get_single_node()
    except (ReaderError, _Refused, yaml.MarkedYAMLError) as error:
        raise InvalidKeyspaceFile([_fault_of(source, error)]) from None
    if node is None:
        raise InvalidKeyspaceFile([Fault(source, None, "the file is empty")])
    reader = _Reader(source)
    data = reader.read(node, (), None)
    if reader.faults:
        raise InvalidKeyspaceFile(reader.faults)
    return YamlDocument(data, reader.places)


class _Refused(Exception):
    """Correct YAML that is not read."""

    def __init__(self, event: yaml.Event, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.mark = event.start_mark


class _Loader(Reader, Scanner, Parser, Composer, BaseResolver):
    """PyYAML as far as nodes: no constructor, so no text can make an object."""

    def __init__(self, source: Source) -> None:
        Reader.__init__(self, source.text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        refused = (
            (isinstance(event, yaml.AliasEvent), "*", "aliases"),
            (getattr(event, "anchor", None) is not None, "&", "anchors"),
            (getattr(event, "tag", None) is not None, "!", "tags"),
        )
        for is_there, sign, what in refused:
            if is_there:
                message = f'text that starts with "{sign}" must be in quotes: {what} are not read'
                raise _Refused(event, message)
        if self._depth == MAX_DEPTH:
            raise _Refused(event, f"more than {MAX_DEPTH} levels of nesting")
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Reader:
    """Turns nodes into data, and notes where each of them stands."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.places: dict[Path, Place] = {}
        self.faults: list[Fault] = []

    def read(self, node: yaml.Node, path: Path, name: Span | None) -> object:
        data: object
        if isinstance(node, yaml.MappingNode):
            data = self._read_mapping(node, path)
        elif isinstance(node, yaml.SequenceNode):
            data = [self.read(item, (*path, index), None) for index, item in enumerate(node.value)]
        else:
            data = _scalar(node)
        self.places[path] = Place(name, _span(self._source, node), type(data))
        return data

    def _read_mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, object]:
        data: dict[str, object] = {}
        for key, value in node.value:
            span = _span(self._source, key)
            if not isinstance(key, yaml.ScalarNode):
                self._complain(span, "a name must be text, not a list or mapping")
                continue
            name = str(key.value)
            first = self.places[*path, name].name if name in data else None
            if first is not None:
                self._complain(span, f'"{name}" is given twice; the first is on line {first.line}')
                self.read(value, (*path, name, "again"), span)
                continue
            data[name] = self.read(value, (*path, name), span)
        return data

    def _complain(self, span: Span, message: str) -> None:
        self.faults.append(Fault(self._source, span, message))


def _scalar(node: yaml.Node) -> object:
    text = str(node.value)
    if not isinstance(node, yaml.ScalarNode) or node.style is not None:
        return text
    return unquoted(text)


def unquoted(text: str) -> object:
    """What a scalar without quotes means: a constant, a whole number, or the text itself."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    return int(text) if _WHOLE_NUMBER.fullmatch(text) else text


def _span(source: Source, node: yaml.Node) -> Span:
    start, end = node.start_mark, node.end_mark
    if end.line == start.line:
        length = end.column - start.column
    else:
        length = len(source.lines[start.line]) - start.column
    return Span(start.line + 1, start.column + 1, max(1, length))


def _span_of_mark(mark: Any) -> Span | None:
    return Span(mark.line + 1, mark.column + 1) if mark else None


def _fault_of(source: Source, error: ReaderError | _Refused | yaml.MarkedYAMLError) -> Fault:
    if isinstance(error, ReaderError):
        message = f"the character {error.character:#04x} is not allowed in YAML"
        return Fault(source, source.span_at(error.position), message)
    if isinstance(error, _Refused):
        return Fault(source, _span_of_mark(error.mark), error.message)
    said = ": ".join(filter(None, (error.context, error.problem)))
    here = _span_of_mark(error.problem_mark or error.context_mark)
    began = _span_of_mark(error.context_mark)
    for known, explained, at_the_start in _EXPLAINED:
        if known not in said:
            continue
        if at_the_start:
            return Fault(source, began or here, explained)
        if began and here and began.line != here.line:
            return Fault(source, here, f"{explained} (it begins on line {began.line})")
        return Fault(source, here, explained)
    return Fault(source, here, f"not YAML: {said}")


# PyYAML's message, the explanation for the author of a declaration, and whether to report
# the start of the faulty element instead of the place where the parser noticed the fault.
_EXPLAINED: Final = (
    ("found another document", "a file holds one keyspace; the next one needs its own file", False),
    ("while scanning an alias", 'a wildcard must be in quotes: "*"', True),
    ("found character '\\t'", "a tab cannot stand here; indent with spaces", False),
    (
        "mapping values are not allowed",
        'a ":" cannot stand here: put text that holds ": " in quotes, or mend the indentation',
        False,
    ),
    ("could not find expected ':'", 'a ":" is missing after this name', True),
    ("found unknown escape", r'"\" must be written "\\" between double quotation marks', False),
    ("that cannot start any token", "text that starts like this must be in quotes", False),
    ("expected ',' or ']'", 'a "," or the closing "]" is missing', False),
    ("expected ',' or '}'", 'a "," or the closing "}" is missing', False),
    ("while scanning a quoted scalar", "the closing quotation mark is missing", True),
    ("expected <block end>", "the indentation does not fit the lines above", False),
    (
        "expected the node content",
        "something before this is missing, or this does not belong here",
        False,
    ),
)
