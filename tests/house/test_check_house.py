"""The house rules find what they are there for, and leave the rest alone."""

from pathlib import Path

import pytest

from tools.check_house import REGISTRY_HOSTS, anchors, faults, faults_of_text


@pytest.mark.parametrize("host", REGISTRY_HOSTS)
def test_a_registry_is_not_named(host: str) -> None:
    found = list(faults_of_text(Path("lock"), f"first\nurl = https://files.{host}/a.whl\n"))

    assert [(fault.line, host in fault.rule) for fault in found] == [(2, True)]


@pytest.mark.parametrize("top", ["home", "Users", "root", "work"])
def test_a_path_of_one_machine_is_not_named(top: str) -> None:
    assert list(faults_of_text(Path("file"), f"see /{top}/somebody/keyfence"))


@pytest.mark.parametrize(
    "line",
    ["/var/lib/keyfence", ".keyfence/root.key", "src/work/a.py", "https://example.com/home/a"],
)
def test_paths_that_every_machine_may_have_are_left_alone(line: str) -> None:
    assert not list(faults_of_text(Path("file"), line))


def test_a_link_leads_to_a_file_and_to_a_heading_of_it(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/errors.md").write_text("# Errors\n## Keys that don't pass\n")
    (tmp_path / "README.md").write_text(
        "[well](docs/errors.md#keys-that-dont-pass) [there](docs) [web](https://example.com/x)\n"
        "[no file](docs/none.md)\n"
        "[no heading](docs/errors.md#limits)\n"
        "```\n[not a link](nowhere)\n```\n"
        "`[nor this](nowhere)`\n"
    )

    found = list(faults(tmp_path, [Path("README.md"), Path("docs/errors.md")]))

    assert [fault.line for fault in found] == [2, 3]


def test_headings_of_the_same_words_are_told_apart() -> None:
    assert anchors("# Keys\n## `CreateKey`\n## Keys\n") == {"keys", "createkey", "keys-1"}


def test_binary_files_have_no_faults(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff/root/x")

    assert not list(faults(tmp_path, [Path("image.png")]))
