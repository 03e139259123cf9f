"""The documentation's pages, taken apart: blocks of code, and rows of tables."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)

_BLOCK: Final = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_CELL: Final = re.compile(r"(?<!\\)\|")
_CODE: Final = re.compile(r"`([^`]+)`")


def read(name: str) -> str:
    """A page, by its path from the root."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The blocks of code in a language, without the indentation of a list around them."""
    return [
        re.sub(rf"^{found[1]}", "", found[3], flags=re.MULTILINE)
        for found in _BLOCK.finditer(text)
        if found[2] == language
    ]


def pairs(text: str, first: str, second: str) -> list[tuple[str, str]]:
    """The blocks in one language that have one in another language right behind them."""
    found = list(_BLOCK.finditer(text))
    return [
        (one[3], other[3])
        for one, other in itertools.pairwise(found)
        if (one[2], other[2]) == (first, second) and not text[one.end() : other.start()].strip()
    ]


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one of its level or above."""
    level = len(heading) - len(heading.lstrip("#"))
    _, found, rest = text.partition(f"\n{heading}\n")
    assert found, f"there is no heading {heading!r}"
    return re.split(rf"^#{{1,{level}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> Iterator[list[str]]:
    """The rows of all tables in a text, without their heads and lines. A drawing is no table."""
    lines = _BLOCK.sub("", text).splitlines()
    for number, line in enumerate(lines):
        below = lines[number + 1] if number + 1 < len(lines) else ""
        is_head = below.strip().startswith("|--")
        if line.strip().startswith("|") and not is_head and not line.strip().startswith("|--"):
            yield [cell.strip() for cell in _CELL.split(line.strip())[1:-1]]


def code(cell: str) -> list[str]:
    """What stands between backticks."""
    return _CODE.findall(cell)
