"""The text of a file, and faults at places in it.

A fault is shown as compilers show errors: the place, the message, and the line with a mark under
the faulty part. This module knows neither YAML nor keyspaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

_LINE_BREAK: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_WIDTH: Final = 100
_TAB: Final = "    "


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A part of one line. Lines and columns count from 1, columns in characters."""

    line: int
    column: int
    length: int = 1


@dataclass(frozen=True, slots=True)
class Source:
    """A file's text.

    Attributes:
        name: the path of the file as it was given, or "<stdin>".
    """

    name: str
    text: str = field(repr=False)
    lines: Sequence[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lines", _LINE_BREAK.split(self.text))

    def span_at(self, index: int) -> Span:
        """The span of the character at an index of the text."""
        before = _LINE_BREAK.split(self.text[:index])
        return Span(len(before), len(before[-1]) + 1)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault at one place. `span` is None if the fault has no place in the text."""

    source: Source
    span: Span | None
    message: str

    def render(self) -> str:
        """The fault for people, without a trailing line break. Safe to print: control
        characters of the file and of the message are shown, not sent to the terminal."""
        message = printable(self.message)
        if self.span is None:
            return f"{printable(self.source.name)}: {message}"
        where = f"{printable(self.source.name)}:{self.span.line}:{self.span.column}"
        excerpt = self._excerpt(self.span)
        return f"{where}: {message}\n{excerpt}" if excerpt else f"{where}: {message}"

    def _excerpt(self, span: Span) -> str:
        if not 1 <= span.line <= len(self.source.lines):
            return ""
        line = self.source.lines[span.line - 1]
        start = min(span.column - 1, len(line))
        end = max(start + 1, min(start + span.length, len(line)))
        from rich.cells import cell_len  # noqa: PLC0415 - takes a command longer than the rest

        before, marked, after = map(printable, (line[:start], line[start:end], line[end:]))
        if (cut := cell_len(before) - _WIDTH // 2) > 0 and cell_len(before + marked) > _WIDTH:
            before = "…" + before[cut:]
        shown = before + marked + after
        if len(shown) > _WIDTH:
            shown = shown[: _WIDTH - 1] + "…"
        number = f"{span.line:>5}"
        carets = "^" * max(1, min(cell_len(marked), _WIDTH - cell_len(before)))
        margin = " " * len(number)
        return f"{number} | {shown.rstrip()}\n{margin} | {' ' * cell_len(before)}{carets}"


def in_order(faults: Iterable[Fault]) -> list[Fault]:
    """The faults in the order of their places in each file, without repetition."""
    unplaced = Span(0, 0)
    return sorted(
        dict.fromkeys(faults), key=lambda fault: (fault.source.name, fault.span or unplaced)
    )


def printable(text: str) -> str:
    """Returns the text with tabs expanded and every other control character escaped, so that
    untrusted text cannot control the reader's terminal."""
    return "".join(
        _TAB if c == "\t" else c if c.isprintable() else c.encode("unicode_escape").decode()
        for c in text
    )


class InvalidKeyspaceFile(Exception):
    """A file is wrong. `faults` names every fault, in the order of the file."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = in_order(faults)
        super().__init__("\n".join(fault.render() for fault in self.faults))
