"""The pages hold for readers who have the installed wheels alone, too."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from docs.pages import ROOT, read

_OF_A_CLONE: Final = {
    # Pages for people who change the code or review it.
    "docs/architecture.md",
    "docs/torture.md",
}
GUIDES: Final = sorted(
    str(page.relative_to(ROOT))
    for folder in ("docs", "docs/how-to", "docs/tutorials")
    for page in (ROOT / folder).glob("*.md")
    if str(page.relative_to(ROOT)) not in _OF_A_CLONE
)
_SHARED: Final = "share/keyfence/"


TARGETS: Final = "|".join(re.findall(r"^([a-z-]+):.*## ", read("Makefile"), re.MULTILINE))
"""What `make` can be asked for."""


def shared() -> dict[str, str]:
    """Which files and folders of the clone are where in an environment."""
    project: Any = tomllib.loads(read("pyproject.toml"))
    found: dict[str, str] = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    return found


@pytest.mark.parametrize("name", GUIDES)
def test_a_page_that_names_a_file_of_the_clone_says_where_it_is_otherwise(name: str) -> None:
    text = read(name)
    if re.search(r"\]\((\.\./)+(deploy|examples/keyspaces)\b", text):
        assert _SHARED in text or "It needs a clone" in text
    if re.search(rf"\bmake ({TARGETS})\b", text):
        assert "clone" in text


@pytest.mark.parametrize("name", ["README.md", *GUIDES])
def test_a_file_that_a_page_names_in_an_environment_is_in_the_wheel(name: str) -> None:
    places = shared()
    for path in re.findall(r"share/keyfence/[\w./-]*\w", read(name)):
        inside = Path(path.removeprefix(_SHARED))
        assert (ROOT / inside).exists(), path
        wanted = Path(path)
        assert any(
            Path(place) in (wanted, *wanted.parents) or wanted in Path(place).parents
            for place in places.values()
        ), path
