"""Tests do not rest on benchmarks. That benchmarks do not rest on tests is an import contract."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FOLDERS: Final = ("tests", "clients/python/tests", "testkit")


def imported_roots(source: str) -> Iterator[str]:
    """The top-level packages that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_no_test_imports_a_benchmark() -> None:
    modules = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    assert len(modules) > 200
    found = [
        str(path.relative_to(ROOT))
        for path in modules
        if "bench" in imported_roots(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_an_import_inside_a_function_is_seen() -> None:
    assert "bench" in imported_roots("def f():\n    from bench.load import Call\n")
    assert "bench" in imported_roots("import bench.echo as echo")
