"""A product's public page, taken apart: its commands, its JSON, its sentences.

A test module takes what it checks by `page.command`, `page.json` and `page.says`, all when it
is imported. What nothing takes is left over, and fails the test of the page.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

TESTS: Final = Path(__file__).parents[1]
PAGES: Final = TESTS / "systems" / "pages"

_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_COMMAND: Final = re.compile(r"^(?:\w+=\$\()?curl\b")

Test = TypeVar("Test", bound=Callable[..., Any])


@dataclass(frozen=True)
class Command:
    """A command of curl."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: str

    def filled(self, placeholders: Mapping[str, str]) -> Command:
        """The same with something real in each placeholder, all of which must be there."""
        text = repr(self)
        for name in placeholders:
            assert name in text, f"the command has no {name}"

        def fill(value: str) -> str:
            for name, real in placeholders.items():
                value = value.replace(name, real)
            return value

        return replace(
            self,
            path=fill(self.path),
            headers=tuple((name, fill(value)) for name, value in self.headers),
            body=fill(self.body),
        )


class Page:
    """A page as it stands in tests/systems/pages."""

    def __init__(self, name: str) -> None:
        self.text = (PAGES / f"{name}.txt").read_text(encoding="utf-8")
        self._commands: list[str] = []
        self._json: list[str] = []
        self._sentences: list[str] = []
        self._taken: set[str] = set()
        self._claimed: set[str] = set()
        self._read(self.text.splitlines())

    def command(self, number: int) -> Command:
        """A command of the page, by its place among them."""
        text = self._commands[number]
        self._taken.add(text)
        return parse_command(text)

    def json(self, number: int) -> Any:
        """A JSON block of the page, by its place among them."""
        text = self._json[number]
        self._taken.add(text)
        return json.loads(text)

    def says(self, *sentences: str) -> Callable[[Test], Test]:
        """Marks a test as what shows these sentences of the page."""
        self._claim(sentences)
        return lambda test: test

    def shown_by(self, test: str, *sentences: str) -> None:
        """Names a test elsewhere that shows these sentences."""
        file, *_, name = test.split("::")
        assert f"def {name}(" in (TESTS / file).read_text(encoding="utf-8"), test
        self._claim(sentences)

    def promises_nothing(self, *sentences: str) -> None:
        """Headings, the page's furniture, and what it asks of its readers."""
        self._claim(sentences)

    def left_over(self) -> list[str]:
        """What nothing has taken."""
        parts = [*self._commands, *self._json, *self._sentences]
        return [part for part in parts if part not in self._taken]

    def made_up(self) -> list[str]:
        """What was taken for a sentence of the page and is none."""
        return sorted(self._claimed - set(self._sentences))

    def _claim(self, sentences: Iterable[str]) -> None:
        self._claimed.update(sentences)
        self._taken.update(sentences)

    def _read(self, lines: list[str]) -> None:
        number = 0
        while number < len(lines):
            line = lines[number].strip()
            taken = 1
            if _COMMAND.match(line):
                taken = _length_of_command(lines[number:])
                self._commands.append("\n".join(lines[number : number + taken]))
            elif line == "{":
                taken = _length_of_json(lines[number:])
                self._json.append("\n".join(lines[number : number + taken]))
            elif line:
                self._sentences += _SENTENCE_END.split(line)
            number += taken


def parse_command(text: str) -> Command:
    """Reads a command of curl, or the one in `name=$(...)`."""
    if not text.startswith("curl"):
        text = text[text.index("(") + 1 : text.rindex(")")]
    method, url, body, headers = "", "", "", []
    words = iter(shlex.split(text.replace("\\\n", " "))[1:])
    for word in words:
        match word:
            case "-X" | "--request":
                method = next(words)
            case "-H" | "--header":
                name, _, value = next(words).partition(":")
                headers.append((name, value.strip()))
            case "-d" | "--data":
                body = next(words)
            case "--url":
                url = next(words)
            case "-sS":
                pass
            case _:
                assert not word.startswith("-"), f"curl's option {word} is not known here"
                url = word
    return Command(method or ("POST" if body else "GET"), urlsplit(url).path, tuple(headers), body)


def _length_of_command(lines: list[str]) -> int:
    for count in range(1, len(lines) + 1):
        text = "\n".join(lines[:count])
        if text.endswith("\\"):
            continue
        try:
            shlex.split(text)
        except ValueError:  # an open quotation mark
            continue
        return count
    raise AssertionError(f"a command does not end: {lines[0]}")


def _length_of_json(lines: list[str]) -> int:
    for count in range(1, len(lines) + 1):
        try:
            json.loads("\n".join(lines[:count]))
        except ValueError:
            continue
        return count
    raise AssertionError(f"a block of JSON does not end: {lines[:3]}")


@dataclass(frozen=True)
class Format:
    """A text that differs each time. What the page prints must have the format, too.

    Args:
        pattern: of the whole text.
        abbreviated: of what the page prints, if it prints the beginning and "...".
    """

    pattern: str
    abbreviated: str | None = None


SECONDS: Final = Format(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
MILLISECONDS: Final = Format(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def assert_as_printed(
    got: Any, printed: Any, formats: Mapping[str, Format], path: str = ""
) -> None:
    """Compares an answer with what the page prints: the same fields, of the same types. A
    value is the same, or of the format that the path of its field is given."""
    assert type(got) is type(printed), f"{path}: {got!r}, and the page prints {printed!r}"
    if isinstance(printed, dict):
        assert sorted(got) == sorted(printed), f"{path}: the fields differ"
        for name, value in printed.items():
            assert_as_printed(got[name], value, formats, f"{path}.{name}".lstrip("."))
    elif isinstance(printed, list):
        assert len(got) == len(printed), path
        for index, value in enumerate(printed):
            assert_as_printed(got[index], value, formats, f"{path}[{index}]")
    elif path in formats:
        one = formats[path]
        assert re.fullmatch(one.pattern, got), f"{path}: {got!r} is not {one.pattern}"
        assert re.fullmatch(one.abbreviated or one.pattern, printed), f"{path}: {printed!r}"
    else:
        assert got == printed, f"{path}: {got!r}, and the page prints {printed!r}"
