"""Writes a declaration as a file that a person can edit."""

from __future__ import annotations

from collections.abc import Iterable

import yaml

from keyfence_server.adapters.keyspace_files.yaml_source import unquoted
from keyfence_server.domain.declarations import KeyspaceDeclaration
from keyfence_server.domain.documents import declaration_to_document


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
    style = None
    if any(character in text for character in "\x85\u2028\u2029"):
        # PyYAML takes some line breaks of Unicode for its own, and loses them in other styles.
        style = '"'
    elif unquoted(text) != text:
        # PyYAML reads 08 as text, since it is no octal number. Ours reads a number.
        style = "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(str, _represent_text)
