"""What the documentation says to do works as it stands there."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from docs.conftest import FIRST_MINUTES, Clone
from docs.pages import PAGES, ROOT, blocks, code, pairs, read, rows, section
from keyfence import CacheStatus
from keyfence_server.adapters.keyspace_files.reading import parse_keyspace_file
from keyfence_server.adapters.keyspace_files.source_text import InvalidKeyspaceFile
from keyfence_server.domain.keyspaces import Keyspace

KEYSPACES = read("docs/keyspaces.md")
OPERATIONS = read("docs/operations.md")
FAULTY = pairs(KEYSPACES, "yaml", "text")
SOUND = [block for block in blocks(KEYSPACES, "yaml") if block not in dict(FAULTY)]


def compiled(text: str) -> Keyspace:
    return parse_keyspace_file(text.encode(), name="shop.yaml").keyspace


def names_of_fields(part: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(part)]


def test_the_readme_shows_what_the_first_start_prints(clone: Clone) -> None:
    printed = [line.strip() for line in clone.said.splitlines() if line.startswith("  ")]
    # Its address is not the usual one here, so it says where it is, too.
    assert [line for line in printed if "KEYFENCE_TARGET=" not in line] == FIRST_MINUTES


def test_the_first_five_minutes_answer_what_the_readme_says(clone: Clone) -> None:
    """Pasted into a shell that knows nothing of the environment of `make run`."""
    said = clone.paste("\n".join(FIRST_MINUTES))
    [answers] = blocks(section(read("README.md"), "## The first five minutes"), "text")
    at = 0
    for answer in answers.splitlines():
        at = said.index(answer, at)
    assert "vps:read: granted by vps:write → vps:read" in said
    assert "A grant of vps:create would be enough." in said


def test_the_python_example_of_the_readme_runs(clone: Clone) -> None:
    [example] = blocks(read("README.md"), "python")
    ended = subprocess.run(
        [sys.executable, "-c", example],
        env=clone.environment(
            {
                "KEYFENCE_TARGET": clone.target,
                "KEYFENCE_TOKEN": (clone.directory / ".keyfence/root.key").read_text().strip(),
            }
        ),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() in example


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_example_of_the_shell_and_of_python_can_be_read(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for block in blocks(text, "python"):
        compile(block, str(page), "exec")
    for block in blocks(text, "sh"):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)


@pytest.mark.parametrize("text", SOUND, ids=lambda text: f"{len(text.splitlines())} lines")
def test_every_keyspace_of_the_page_can_be_applied(clone: Clone, text: str) -> None:
    (clone.directory / "shop.yaml").write_text(text)
    assert "This was a dry run" in clone.run("keyfence keyspaces apply -f shop.yaml --dry-run")
    assert "shop" in clone.run("keyfence keyspaces apply -f shop.yaml")
    answer = clone.run("keyfence keyspaces apply -f shop.yaml --output json")
    assert json.loads(answer)["applied"][0]["changed"] is False


@pytest.mark.parametrize(("text", "shown"), FAULTY)
def test_every_fault_of_the_page_is_shown_as_it_says(text: str, shown: str) -> None:
    with pytest.raises(InvalidKeyspaceFile) as caught:
        compiled(text)
    assert str(caught.value).strip() == shown.strip()


def test_every_field_of_the_language_is_in_the_example_with_all_of_it() -> None:
    """So that the page's tables, which name the same fields, leave none out."""
    declaration = compiled(SOUND[1]).declaration
    named = " ".join(row[0] for row in rows(section(KEYSPACES, "## Fields")))
    for field in names_of_fields(declaration):
        assert getattr(declaration, field), field
        assert ("`keyspace`" if field == "name" else field) in named
    for part in (
        declaration.format,
        declaration.format.body,
        declaration.defaults,
        *declaration.key_types,
    ):
        for field in names_of_fields(part):
            name = "templates" if field == "templates_by_key_type" else field
            assert name in {"name", "body"} or f".{name}`" in named, name


def test_the_table_of_effective_scopes_is_what_keys_hold() -> None:
    keyspace = compiled(SOUND[1])
    table = KEYSPACES.partition("<!-- effective scopes -->")[2].partition("\n\n")[0]
    count = 0
    for key_type, granted, held in rows(table):
        grants = [name.strip(" `") for name in granted.split(",")]
        mask = keyspace.catalog.mask(grants) & keyspace.cap_mask(key_type.strip("`"))
        assert [f"`{name}`" for name in keyspace.catalog.names_in(mask)] == held.split(", ")
        count += 1
    assert count == 5


def test_a_service_gets_the_credential_that_the_page_on_security_makes(clone: Clone) -> None:
    [script] = [
        block for block in blocks(read("docs/security.md"), "sh") if "--preset checker" in block
    ]
    clone.run(script)
    said = clone.run("KEYFENCE_TOKEN=$(cat checkout.token) keyfence whoami")
    assert "keys:check" in said
    assert "keys:write" not in said
    refused = clone.paste(
        f"{FIRST_MINUTES[1]}\nKEYFENCE_TOKEN=$(cat checkout.token) keyfence keys list -k demo"
    )
    assert "keys:read" in refused


def test_the_examples_of_the_page_on_the_cache_run(clone: Clone) -> None:
    page = read("docs/sdk-cache.md")
    [script] = blocks(page, "sh")
    made = clone.run(f"{script}\nkeyfence keys create -k demo -a acct_1 -s vps:read --quiet")
    ended = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks(page, "python"))],
        env=clone.environment(
            {
                "KEYFENCE_TARGET": clone.target,
                "KEYFENCE_TOKEN": (clone.directory / "checkout.token").read_text().strip(),
                "API_KEY": made.split()[-1],
            }
        ),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    assert "welcome" in ended.stdout


def test_the_page_on_the_cache_names_every_field_of_its_status() -> None:
    named = [
        code(row[0])[0] for row in rows(section(read("docs/sdk-cache.md"), "## How it is doing"))
    ]
    assert named == names_of_fields(CacheStatus)


def test_the_statements_for_the_database_run_on_it(clone: Clone) -> None:
    database = sqlite3.connect(clone.directory / ".keyfence" / "keyfence.db")
    statements = [*blocks(OPERATIONS, "sql"), *blocks(read("docs/security.md"), "sql")]
    assert len(statements) == 2
    for statement in statements:
        database.execute(statement).fetchall()
    database.close()
