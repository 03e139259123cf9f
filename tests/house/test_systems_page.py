"""docs/systems.md promises a test for each sentence: they must be there, by these names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_PAGE = _ROOT / "docs" / "systems.md"
_NAMED = re.compile(r"`([a-z_]+/[a-z_0-9]+\.py)::([A-Za-z_0-9:]+)`")


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
    named = _NAMED.findall(_PAGE.read_text())

    assert len(named) > 80
    for file, test in named:
        assert test in names_in(_ROOT / "tests" / file), f"{file} has no {test}"


def test_every_row_of_a_system_names_a_test() -> None:
    before_mapping = _PAGE.read_text().partition("## Management JSON")[0]
    rows = [line for line in before_mapping.splitlines() if line.startswith("| ")]

    for row in rows:
        if not row.startswith("| The page says"):
            assert _NAMED.search(row), row
