"""What the library shows, what it needs, and what it never shows."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import inspect
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import keyfence
from keyfence import (
    AsyncClient,
    AsyncListing,
    Client,
    Listing,
    ScopeCheck,
    _convert,
    asgi,
    fastapi,
    guard,
    results,
    rpcs,
    testing,
)
from keyfence.v1 import (
    account_service_pb2,
    audit_service_pb2,
    authorization_service_pb2,
    key_service_pb2,
    keyspace_service_pb2,
)

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "keyfence"
CANARY = "kf_live_canary_7f3a9c"


def test_every_export_exists_and_is_public() -> None:
    for module in (keyfence, guard, asgi, fastapi, testing):
        assert len(set(module.__all__)) == len(module.__all__)
        for name in module.__all__:
            assert hasattr(module, name)
            assert not name.startswith("_")


def test_every_public_error_and_result_is_exported() -> None:
    for module in (keyfence.errors, results):
        public = {
            name
            for name, value in vars(module).items()
            if isinstance(value, type)
            and value.__module__ == module.__name__
            and not name.startswith("_")
        }
        assert public <= set(keyfence.__all__)


def public_methods(kind: type) -> dict[str, Any]:
    return {name: value for name, value in vars(kind).items() if not name.startswith("_")}


def test_both_clients_take_the_same_arguments() -> None:
    assert public_methods(AsyncClient).keys() == public_methods(Client).keys()
    pairs = [(vars(AsyncClient)[name], twin) for name, twin in public_methods(Client).items()]
    for pair in [(AsyncClient, Client), *pairs]:
        there, here = (inspect.signature(function).parameters for function in pair)
        assert list(there) == list(here)
        for parameter in there:
            assert there[parameter].kind is here[parameter].kind
            assert there[parameter].default == here[parameter].default


def test_both_listings_have_the_same_members() -> None:
    assert public_methods(AsyncListing).keys() == public_methods(Listing).keys()


def test_every_rpc_of_the_api_has_a_method() -> None:
    for module in (
        account_service_pb2,
        audit_service_pb2,
        authorization_service_pb2,
        key_service_pb2,
        keyspace_service_pb2,
    ):
        (service,) = module.DESCRIPTOR.services_by_name.values()
        for method in service.methods:
            words = "".join(f"_{c.lower()}" if c.isupper() else c for c in method.name).lstrip("_")
            assert hasattr(Client, words), method.name
            assert method.name in {rpc.name for rpc in rpcs.ALL}


def test_every_public_method_is_documented() -> None:
    for kind in (AsyncClient, Client, AsyncListing, Listing):
        for name, method in public_methods(kind).items():
            assert method.__doc__, name


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "generate_sync", ROOT / "tools" / "generate_sync.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", load_generator().GENERATED)
def test_the_generated_client_is_that_of_its_source(name: str) -> None:
    text = (PACKAGE / "_sync" / name).read_text(encoding="utf-8")
    assert text == load_generator().generated(name), "run tools/generate_sync.py"


def test_the_generator_keeps_texts_and_layout() -> None:
    source = (
        "async def f(x):\n"
        '    """Await an AsyncClient, not an AsyncClientele."""\n'
        "    async with x as y:  # AsyncClient\n"
        "        return [await z async for z in y]\n"
    )
    assert load_generator().synchronous(source) == (
        "def f(x):\n"
        '    """Await an Client, not an AsyncClientele."""\n'
        "    with x as y:  # Client\n"
        "        return [z for z in y]\n"
    )


FOR_FASTAPI = frozenset((PACKAGE / "fastapi").glob("*.py"))


def imported_modules(files: Iterable[Path]) -> set[str]:
    names: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
    return names


def foreign_modules(files: Iterable[Path]) -> set[str]:
    return {
        name
        for name in imported_modules(files)
        if name.partition(".")[0] not in {*sys.stdlib_module_names, "keyfence", "grpc"}
        and not name.startswith("google.protobuf")
    }


def test_nothing_is_needed_but_grpcio_and_protobuf() -> None:
    files = set(PACKAGE.rglob("*.py")) - FOR_FASTAPI
    assert foreign_modules(files) == set()
    assert not any(name.startswith("keyfence.fastapi") for name in imported_modules(files))


def test_fastapi_and_what_it_brings_is_needed_by_its_own_package_alone() -> None:
    brought = {name.partition(".")[0] for name in foreign_modules(FOR_FASTAPI)}
    assert brought == {"fastapi", "starlette", "pydantic"}


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True
    ).stdout


def test_googleapis_is_not_loaded() -> None:
    code = "import sys, keyfence, keyfence.guard; print([m for m in sys.modules if 'google' in m])"
    assert "google.rpc" not in run(code)
    assert "google.api" not in run(code)


@pytest.mark.parametrize("order", ["keyfence.guard, google.rpc", "google.rpc, keyfence.guard"])
def test_an_application_may_have_googleapis_too(order: str) -> None:
    """Two descriptions of one message in one pool would end the process at import."""
    modules = order.replace("google.rpc", "google.rpc.error_details_pb2, google.rpc.status_pb2")
    assert run(f"import {modules}; print('fine')") == "fine\n"


def test_importing_opens_nothing_and_reads_no_settings() -> None:
    code = "import threading, keyfence.guard; print(threading.active_count())"
    assert run(code) == "1\n"


def test_no_repr_shows_a_key() -> None:
    key = _convert.result(results.Key, key_service_pb2.Key(key_id="key_1"))
    for value in (
        ScopeCheck(api_key=CANARY, required_scopes=("a:b",)),
        results.CreatedKey(key=key, api_key=CANARY, revision=1),
        results.RotatedKey(key=key, api_key=CANARY, previous_key=key, revision=1),
    ):
        assert value.api_key == CANARY
        assert CANARY not in repr(value)
        assert CANARY not in str(value)
        assert CANARY not in f"{value}"


def test_results_are_frozen() -> None:
    for value in vars(results).values():
        if dataclasses.is_dataclass(value) and isinstance(value, type):
            assert vars(value)["__dataclass_params__"].frozen, value


def test_results_can_be_turned_into_plain_data() -> None:
    key = _convert.result(results.Key, key_service_pb2.Key(key_id="key_1", labels={"a": "b"}))
    assert dataclasses.asdict(key)["labels"] == {"a": "b"}
