"""Texts with placeholders.

`{name}` stands for a value, `{{` and `}}` for the braces themselves. There are no expressions and
no loops, and a template can use only the values that are passed to it by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

Value = str | int | Sequence[str] | None

_PART: Final = re.compile(r"\{\{|\}\}|\{([a-z_]+)\}|[{}]")
_MAX_DEPTH: Final = 8


class InvalidTemplate(ValueError):
    """A template cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class TextTemplate:
    """Literal texts and names of values, alternating.

    Attributes:
        parts: literal texts at even indexes, names of values at odd indexes.
    """

    parts: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """The names of the values that it uses."""
        return frozenset(self.parts[1::2])

    @property
    def only_name(self) -> str | None:
        """The name, if the template is a single placeholder and nothing else; otherwise None."""
        before, *rest = self.parts
        return rest[0] if not before and len(rest) == 2 and not rest[1] else None

    def render(self, values: Mapping[str, Value], *, separator: str = ", ") -> str:
        """The text with its values. Lists are joined; None becomes the empty text."""
        return "".join(
            _text(values[part], separator) if index % 2 else part
            for index, part in enumerate(self.parts)
        )


def parse_text(text: str) -> TextTemplate:
    """Reads a template. Raises `InvalidTemplate`."""
    parts: list[str] = [""]
    position = 0
    for found in _PART.finditer(text):
        parts[-1] += text[position : found.start()]
        position = found.end()
        if found[1] is not None:
            parts += [found[1], ""]
        elif len(found[0]) == 2:
            parts[-1] += found[0][0]
        else:
            raise InvalidTemplate(
                f'the "{found[0]}" at character {found.start() + 1} belongs to no placeholder; '
                f'write "{found[0] * 2}" for the brace itself'
            )
    parts[-1] += text[position:]
    return TextTemplate(tuple(parts))


@dataclass(frozen=True, slots=True)
class JsonTemplate:
    """A JSON object whose strings may hold placeholders.

    Values are put into the object and not into its text, so no value can change the structure. A
    string that is a single placeholder becomes the value itself: a number, a list, or null.
    """

    root: object
    names: frozenset[str]

    def render(self, values: Mapping[str, Value]) -> str:
        """The object as text, in ASCII."""
        return json.dumps(_rendered(self.root, values))


def parse_json(text: str) -> JsonTemplate:
    """Reads a JSON object with placeholders. Raises `InvalidTemplate`."""
    data = json_data(text)
    if not isinstance(data, dict):
        raise InvalidTemplate("is not a JSON object")
    names: set[str] = set()
    return JsonTemplate(_compiled(data, names, _MAX_DEPTH), frozenset(names))


def json_text(data: object) -> str:
    """Data of JSON types, as text. Raises `InvalidTemplate`."""
    try:
        return json.dumps(data, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidTemplate(f"cannot be written as JSON: {error}") from None


def json_data(text: str) -> object:
    """The data of a JSON text. Raises `InvalidTemplate`."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidTemplate(f"is not JSON: {error}") from None


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no number")


def _compiled(data: object, names: set[str], depth: int) -> object:
    if depth < 0:
        raise InvalidTemplate(f"is nested more than {_MAX_DEPTH} deep")
    if isinstance(data, str):
        template = parse_text(data)
        names |= template.names
        return template
    if isinstance(data, dict):
        return {name: _compiled(value, names, depth - 1) for name, value in data.items()}
    if isinstance(data, list):
        return [_compiled(value, names, depth - 1) for value in data]
    return data


def _rendered(node: object, values: Mapping[str, Value]) -> object:
    if isinstance(node, TextTemplate):
        name = node.only_name
        if name is None:
            return node.render(values)
        value = values[name]
        return value if value is None or isinstance(value, str | int) else list(value)
    if isinstance(node, dict):
        return {name: _rendered(value, values) for name, value in node.items()}
    if isinstance(node, list):
        return [_rendered(value, values) for value in node]
    return node


def _text(value: Value, separator: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str | int):
        return str(value)
    return separator.join(value)
