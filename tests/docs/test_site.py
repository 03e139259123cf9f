"""What the site's hook does to links and commands. `make docs` builds the site itself."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from docs.pages import ROOT
from tools.docs_hooks import commands_page, on_page_markdown


def seen(markdown: str, page: str = "operations.md") -> str:
    shown: Any = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    return on_page_markdown(markdown, page=shown, config={"docs_dir": str(ROOT / "docs")}, files=[])


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("[Dockerfile](../Dockerfile)", "`Dockerfile`"),
        ("[changes](../CHANGELOG.md)", "changes (`CHANGELOG.md`)"),
        ("[`tests/docs`](../tests/docs)", "`tests/docs`"),
        ("[the fence](fence.md#x)", "[the fence](fence.md#x)"),
    ],
)
def test_a_link_that_leaves_the_documentation_becomes_its_path(written: str, shown: str) -> None:
    assert seen(written) == shown


def test_a_link_between_folders_stays() -> None:
    link = "[Operations](../operations.md#health)"
    assert seen(link, "how-to/correct-a-wrong-clock.md") == link


def test_a_link_to_a_file_that_is_not_there_is_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With --strict, MkDocs counts it as a failure."""
    with caplog.at_level(logging.WARNING, logger="mkdocs"):
        seen("[x](../nowhere.py)")
    assert "links to ../nowhere.py, which does not exist" in caplog.text


def test_every_command_is_on_the_page_with_its_options() -> None:
    page = commands_page()
    for line in (
        "## `keyfence operator recover`",
        "## `keyfence keys revoke`",
        "`--database-url`",
        "Or the variable `KEYFENCE_DATABASE_URL`.",
    ):
        assert line in page
