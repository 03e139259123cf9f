"""Texts with placeholders, as a keyspace's section `http:` has them: docs/http.md.

`{name}` stands for a value, `{{` and `}}` for the braces themselves. The server has
checked the texts when the keyspace was applied.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final

from keyfence.errors import ConfigurationError

Value = str | int | Sequence[str] | None

_PART: Final = re.compile(r"\{\{|\}\}|\{([a-z_]+)\}|[{}]")


class Template:
    """A text with placeholders, parsed.

    Raises:
        ConfigurationError: a brace belongs to no placeholder.
    """

    def __init__(self, text: str) -> None:
        # Literal texts at even places, names of values at odd ones.
        parts = [""]
        position = 0
        for found in _PART.finditer(text):
            parts[-1] += text[position : found.start()]
            position = found.end()
            if found[1] is not None:
                parts += [found[1], ""]
            elif len(found[0]) == 2:
                parts[-1] += found[0][0]
            else:
                raise ConfigurationError(
                    f"the {found[0]!r} at character {found.start() + 1} belongs to no placeholder"
                )
        parts[-1] += text[position:]
        self._parts = tuple(parts)

    def render(self, values: Mapping[str, Value], separator: str = ", ") -> str:
        """The text with the values in their places; lists are joined, None is nothing."""
        return "".join(
            _text(values.get(part), separator) if index % 2 else part
            for index, part in enumerate(self._parts)
        )

    def value(self, values: Mapping[str, Value]) -> Value:
        """The text as a value of JSON. One that is a placeholder and nothing else becomes the
        value itself: a number, a list or null."""
        before, *rest = self._parts
        if before or len(rest) != 2 or rest[1]:
            return self.render(values)
        value = values.get(rest[0])
        return value if value is None or isinstance(value, str | int) else list(value)


class JsonTemplate:
    """A JSON object whose strings have placeholders. Values are put into the object and not
    into its text, so no value can break out of its place.

    Raises:
        ConfigurationError: the text is not JSON.
    """

    def __init__(self, text: str) -> None:
        try:
            self._root = _parsed(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"the body of the answers is not JSON: {error}") from None

    def render(self, values: Mapping[str, Value]) -> str:
        """The object as text, in ASCII."""
        return json.dumps(_rendered(self._root, values))


def _parsed(data: object) -> object:
    if isinstance(data, str):
        return Template(data)
    if isinstance(data, dict):
        return {name: _parsed(value) for name, value in data.items()}
    if isinstance(data, list):
        return [_parsed(value) for value in data]
    return data


def _rendered(node: object, values: Mapping[str, Value]) -> object:
    if isinstance(node, Template):
        return node.value(values)
    if isinstance(node, dict):
        return {name: _rendered(value, values) for name, value in node.items()}
    if isinstance(node, list):
        return [_rendered(value, values) for value in node]
    return node


def _text(value: Value, separator: str) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, str | int) else separator.join(value)
