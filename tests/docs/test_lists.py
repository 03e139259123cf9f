"""What the documentation lists is what the code has: nothing is missing, nothing made up."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from docs.pages import ROOT, blocks, code, read, rows, section
from keyfence.v1 import (
    account_service_pb2,
    audit_service_pb2,
    authorization_service_pb2,
    error_reason_pb2,
    key_service_pb2,
    keyspace_service_pb2,
    options_pb2,
    reason_pb2,
    replication_service_pb2,
)
from keyfence_server.adapters.sql.schema import metadata
from keyfence_server.application.write_behind import WriteBehind
from keyfence_server.cli.restrictive_changes import KNOWN_ACTIONS
from keyfence_server.coherence.fact_cache import FactCache
from keyfence_server.config import PREFIX, Settings
from keyfence_server.domain.system import SYSTEM_KEYSPACE
from keyfence_server.rpc.stats import RpcStats
from keyfence_server.rpc.status import CODE_BY_REASON
from keyfence_server.telemetry.measured_fence import LeaseFigures
from keyfence_server.telemetry.metrics import BackendStats, KeyfenceCollector, Sources
from support.clock import FrozenClock
from support.documented_errors import BY_RPC, OF_EVERY_RPC
from support.serving import METHODS

_REASONS = error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name
OPERATIONS = read("docs/operations.md")
SECURITY = read("docs/security.md")
ERRORS = read("docs/errors.md")


def shown(default: Any) -> str:
    """A setting's default, as the page writes it."""
    if default is None or default == ():
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    assert not isinstance(default, SecretStr)
    return f"`{default}`"


def test_every_setting_is_listed_with_its_default() -> None:
    listed = {row[0]: row[1] for row in rows(section(OPERATIONS, "## Settings"))}
    fields = Settings.model_fields
    assert listed == {
        f"`{PREFIX}{name.upper()}`": shown(field.default) for name, field in fields.items()
    }


class Nothing:
    """Stands where a collector would ask a store, which it does not."""


def test_every_metric_is_listed_with_its_type_and_labels() -> None:
    stats = RpcStats()
    unused: Any = Nothing()
    collector = KeyfenceCollector(
        Sources(
            rpc=stats,
            backend=BackendStats(),
            cache=FactCache(unused),
            write_behind=WriteBehind(unused, FrozenClock()),
            calls_under_way=lambda: 0,
            is_serving=lambda: True,
            holders=lambda: 0,
            lease=lambda: LeaseFigures(1.0, 0.5, 2, 0),
            lease_losses=lambda: 0,
            stale_answers=lambda: 0,
            certificate_expire_time=lambda: None,
            seconds_without_lease=lambda: 0.0,
        )
    )
    listed = {
        code(row[0])[0]: (row[1], tuple(code(row[2])))
        for row in rows(section(OPERATIONS, "## Metrics"))
    }
    exposed = {
        metric.name + ("_total" if metric.type == "counter" else ""): (
            metric.type,
            tuple(getattr(metric, "_labelnames", ())),
        )
        for metric in collector.collect()
    }
    assert listed == exposed


def test_every_reason_of_a_check_is_listed_in_its_order() -> None:
    listed = [code(row[0])[0] for row in rows(section(ERRORS, "## Reasons of a check"))]
    assert listed == [
        value.name.removeprefix("REASON_")
        for value in reason_pb2.Reason.DESCRIPTOR.values
        if value.number
    ]


def test_every_error_is_listed_with_its_status_and_advice() -> None:
    listed = {code(row[0])[0]: row for row in rows(section(ERRORS, "## Errors"))}
    assert list(listed) == [
        value.name.removeprefix("ERROR_REASON_")
        for value in error_reason_pb2.ErrorReason.DESCRIPTOR.values
        if value.number
    ]
    for reason, row in listed.items():
        assert code(row[1]) == [CODE_BY_REASON[reason].name]
        assert all(row)


def test_every_rpc_lists_its_errors_and_nothing_that_is_none() -> None:
    """What it lists holds: `Client.refusal` of the tests accepts nothing else."""
    known = {name.removeprefix("ERROR_REASON_") for name in _REASONS}
    ours = {name for name, method in METHODS.items() if method.full_name.startswith("keyfence.v1.")}
    assert {*ours, "Sync"} <= BY_RPC.keys()
    for listed in (OF_EVERY_RPC, *BY_RPC.values()):
        assert listed
        assert listed <= known


def test_every_rpc_is_listed_with_the_scope_that_it_declares() -> None:
    listed = [(code(row[1])[0], row[2]) for row in rows(read("docs/api.md")) if len(row) == 4]
    declared = []
    for file in (
        authorization_service_pb2,
        key_service_pb2,
        keyspace_service_pb2,
        audit_service_pb2,
        account_service_pb2,
        replication_service_pb2,
    ):
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                scope = method.GetOptions().Extensions[options_pb2.required_scope]
                access = method.GetOptions().Extensions[options_pb2.access]
                instead = "none" if access == options_pb2.ACCESS_PUBLIC else "any credential"
                declared.append((method.name, f"`{scope}`" if scope else instead))
    assert listed == declared


def test_every_scope_and_preset_of_operators_is_listed() -> None:
    operators = section(SECURITY, "## Operator credentials")
    names = list(SYSTEM_KEYSPACE.catalog.names)
    assert [code(row[0])[0] for row in rows(operators)][: len(names)] == names
    for preset in SYSTEM_KEYSPACE.declaration.presets:
        scopes = ", ".join(f"`{scope}`" for scope in preset.scopes)
        assert f"`{preset.name}` ({scopes})" in operators


def test_every_action_of_the_audit_log_is_listed() -> None:
    """An action is a text of the use cases like "key.create" that names neither a field nor a
    logger."""
    texts = {
        node.value
        for path in (ROOT / "service/keyfence_server/application").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    fields = {
        f"{message.name.lower()}.{field.name}"
        for message in (key_service_pb2.Key.DESCRIPTOR, account_service_pb2.Account.DESCRIPTOR)
        for field in message.fields
    }
    actions = {
        text for text in texts if re.fullmatch(r"(?!keyfence\.)[a-z]+\.[a-z_]+", text)
    } - fields
    table = section(read("docs/audit.md"), "## What is in the log")
    assert {action for row in rows(table) for action in code(row[0])} == actions

    drill = section(OPERATIONS, "### Restoring")
    undone = {action for row in rows(drill) for action in code(row[0])}
    assert undone == {action for action in actions if not action.endswith("denied")}
    # One that the command passes over would be forgotten in a restored database.
    assert actions == KNOWN_ACTIONS


def test_the_layers_are_those_of_the_linter_and_every_module_is_in_one() -> None:
    page = section(read("docs/architecture.md"), "## Layers")
    contracts = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one["type"] == "layers")
    alike = [layer.replace("keyfence_server.", "").split(" | ") for layer in reversed(layers)]
    line = " ← ".join(one[0] if len(one) == 1 else f"{{{', '.join(one)}}}" for one in alike)
    assert f"`{line}`" in page

    named = {name for row in rows(page) for name in code(row[0])}
    package = ROOT / "service/keyfence_server"
    modules = {path.name for path in package.glob("*.py") if not path.name.startswith("__")}
    packages = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert named == modules | packages


@pytest.mark.parametrize("path", ["a check", "a revocation"])
def test_the_paths_through_the_code_name_files_that_are_there(path: str) -> None:
    """And no more of them than a reader can follow."""
    page = section(read("docs/architecture.md"), f"## The path of {path}")
    files = [code(row[1]) for row in rows(page)]
    named = [name for names in files for name in names]
    assert named
    assert len(named) <= {"a check": 10, "a revocation": 20}[path]
    mentioned = re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", page)
    missing = [
        name
        for name in {*named, *mentioned}
        if not (ROOT / "service/keyfence_server" / name).exists()
    ]
    assert missing == []


def test_the_drawings_of_the_paths_have_the_numbers_of_the_tables() -> None:
    page = read("docs/architecture.md")
    numbers: dict[str, int] = {}
    for path in ("a check", "a revocation"):
        part = section(page, f"## The path of {path}")
        for row in rows(part):
            numbers |= {name: int(row[0]) for name in code(row[1])}
        drawn = {
            name: int(number)
            for number, name in re.findall(r"\b(\d+) ([a-z_/]+\.py)", blocks(part, "text")[0])
        }
        assert drawn == {name: numbers[name] for name in drawn}
        assert len(drawn) == {"a check": 10, "a revocation": 20}[path]


def test_every_table_of_the_database_is_listed() -> None:
    stored = section(read("docs/architecture.md"), "## What is stored")
    assert {code(row[0])[0] for row in rows(stored)} == set(metadata.tables)


def names_of_tests(path: Path) -> set[str]:
    """The tests in a file, as pytest names them. Those of a base class count as its file's."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return set(_tests_in(tree, ""))


def _tests_in(scope: ast.Module | ast.ClassDef, prefix: str) -> Iterator[str]:
    for node in scope.body:
        if isinstance(node, ast.ClassDef):
            yield from _tests_in(node, f"{prefix}::{node.name}")
            if not node.name.startswith("Test"):
                yield from _tests_in(node, prefix)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}::{node.name}"


def test_every_test_that_security_rests_on_exists() -> None:
    table = SECURITY.partition("## What must not happen")[2]
    cited = [test for row in rows(table) for test in code(row[2])]
    assert len(cited) > 40
    for test in cited:
        path, separator, name = test.partition("::")
        assert separator, test
        assert f"::{name}" in names_of_tests(ROOT / path), test
    assert all(code(row[2]) for row in rows(table))


def messages_of_the_code() -> str:
    """The code's texts in one, those that are written in several pieces put together."""
    files = [*(ROOT / "service").rglob("*.py"), *(ROOT / "clients/python/src").rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    joined = re.sub(r'"\s*\n\s*f?"', "", text)
    # A text may begin in one kind of quotation marks and go on in the other.
    return re.sub(r"['\"]\s*\n\s*f?['\"]", "", joined).replace("`", "")


def troubles() -> Iterator[str]:
    for row in rows(section(OPERATIONS, "## When something is wrong")):
        yield code(row[0])[0]
    for row in rows(section(OPERATIONS, "## Logs")):
        yield from code(row[0])


def test_every_message_that_operations_explains_is_one_of_the_code() -> None:
    said = re.sub(r"\{[^{}]*\}", "{}", messages_of_the_code())
    missing = [message for message in troubles() if message not in said]
    assert missing == []


def test_every_message_of_the_guides_to_secrets_and_connections_is_one_of_the_code() -> None:
    said = messages_of_the_code()
    connections = section(read("docs/how-to/connect-a-sidecar-or-cache.md"), "## What to do")
    secrets = section(read("docs/how-to/replace-a-pepper-or-session-key.md"), "## What you see")
    explained = [
        *(message for row in rows(connections) for message in code(row[0])),
        *(message for row in rows(secrets) for message in code(row[1])),
    ]
    assert len(explained) > 10
    assert [message for message in explained if message not in said] == []


@pytest.mark.parametrize("name", ["docs/README.md", "README.md"])
def test_an_index_leaves_no_page_out(name: str) -> None:
    text = read(name)
    for page in sorted((ROOT / "docs").glob("*.md")):
        if page.name != "README.md":
            assert f"{page.name}" in text, page.name
    if name.startswith("docs"):
        for page in sorted((ROOT / "docs" / "decisions").glob("*.md")):
            assert f"decisions/{page.name}" in text


def test_every_decision_has_a_number_of_its_own_which_its_title_repeats() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    titles = [page.read_text(encoding="utf-8").splitlines()[0] for page in pages]
    numbers = [int(page.name[:4]) for page in pages]
    assert len(set(numbers)) == len(numbers)
    for number, title in zip(numbers, titles, strict=True):
        assert title.startswith(f"# {number}. "), title
        row = f"| {title.removeprefix(f'# {number}. ')}"
        assert f"| [{number}](decisions/" in read("docs/README.md"), title
        assert row in read("docs/README.md"), title
