"""Imports that the contracts in pyproject.toml cannot state: tests do not import benchmarks, and
the server imports no private name of the SDK."""

from __future__ import annotations

import ast
import tomllib
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


def private_imports(source: str) -> Iterator[str]:
    """The private modules and names of the SDK that a module imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            root, *parts = name.split(".")
            if root == "keyfence" and any(part.startswith("_") for part in parts):
                yield name


def test_the_server_imports_no_private_name_of_the_sdk() -> None:
    modules = list((ROOT / "service").rglob("*.py"))
    assert len(modules) > 200
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in modules
        for name in private_imports(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_a_private_name_of_the_sdk_is_seen() -> None:
    source = "from keyfence import Tls, _tokens\nfrom keyfence.holder.memory import _entry\n"
    assert list(private_imports(source)) == ["keyfence._tokens", "keyfence.holder.memory._entry"]
    assert list(private_imports("import keyfence._sync.client")) == ["keyfence._sync.client"]
    assert list(private_imports("from keyfence.holder.lease import HolderLease")) == []


def test_the_contract_lists_every_private_module_of_the_sdk() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = [
        one
        for one in settings["tool"]["importlinter"]["contracts"]
        if one["name"] == "The server uses only the public modules of the SDK"
    ]
    package = ROOT / "clients" / "python" / "src" / "keyfence"
    private = {f"keyfence.{path.stem}" for path in package.glob("_*") if path.stem[:2] != "__"}
    assert set(contract["forbidden_modules"]) == private
