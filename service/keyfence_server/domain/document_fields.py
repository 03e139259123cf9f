"""Reading plain data field by field, and saying what is wrong with it by its path.

What the fields mean is the business of `documents` and of the modules of its sections.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final, TypeVar

from keyfence_server.domain.errors import Problem

Document = dict[str, object]
T = TypeVar("T")

LONGEST_DURATION: Final = timedelta(days=999_999_999)
MAX_INTEGER: Final = 2**31 - 1

_DURATION: Final = re.compile(r"([0-9]{1,100})(s|m|h|d)")
_SHORT_LISTS: Final = {"presets": "scopes", "resources": "levels"}
"""Which field a list, or a text alone, stands for where a thing is given in short."""
_UNITS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def parse_duration(text: str) -> timedelta | None:
    """Reads a duration like "30s", "15m", "12h" or "90d"; None if it is not one.

    What cannot be counted is `LONGEST_DURATION`, which whoever asks finds too long.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        return None
    seconds = int(found[1]) * _UNITS[found[2]]
    return timedelta(seconds=min(seconds, LONGEST_DURATION.total_seconds()))


def format_duration(duration: timedelta | None) -> str:
    """Writes a duration in the largest unit that keeps it whole; nothing for None.

    Durations of declarations are whole seconds.
    """
    if duration is None:
        return ""
    seconds = int(duration.total_seconds())
    unit, size = next((u, s) for u, s in _UNITS.items() if seconds % s == 0)
    return f"{seconds // size}{unit}"


def without_empty(document: Mapping[str, object]) -> Document:
    """The document without the fields that say nothing."""
    return {
        name: value
        for name, value in document.items()
        if value is not False and value not in ("", [], {})
    }


class Fields:
    """Reads the fields of one mapping and collects what is wrong with them.

    A field that is not there reads as empty. `finish` reports the ones that nobody
    asked for, so it comes last.
    """

    def __init__(self, value: object, path: str, problems: list[Problem]) -> None:
        self._path = path
        self._problems = problems
        self._known: list[str] = []
        self._fields: Mapping[object, object] = {}
        self._is_mapping = value is None or isinstance(value, Mapping)
        if isinstance(value, Mapping):
            self._fields = value
        elif not self._is_mapping:
            self._complain(path, f"a mapping is needed here, not {_kind(value)}")

    def anything(self, name: str) -> object:
        """Whatever is there, for a reader that looks at it itself."""
        return self._take(name)

    def complain(self, name: str, message: str) -> None:
        """Notes what is wrong with a field."""
        self._complain(self._at(name), message)

    def has(self, name: str) -> bool:
        """Whether the field is there."""
        self._known.append(name)
        return name in self._fields

    def text(self, name: str, *, required: bool = False) -> str:
        """A text."""
        value = self._take(name)
        if isinstance(value, str):
            if required and not value:
                self._complain(self._at(name), "is empty")
            return value
        if value is not None:
            self._complain(self._at(name), f"text is needed here, not {_kind(value)}")
        elif required and self._is_mapping:
            self._complain(self._at(name), "is missing")
        return ""

    def integer(self, name: str, default: int) -> int:
        """A whole number."""
        value = self._take(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            self._complain(self._at(name), f"a whole number is needed here, not {_kind(value)}")
        elif abs(value) > MAX_INTEGER:
            self._complain(self._at(name), f"this number is too large; the most is {MAX_INTEGER}")
        else:
            return value
        return default

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._take(name)
        if value is not None and not isinstance(value, bool):
            self._complain(self._at(name), f"true or false is needed here, not {_kind(value)}")
        return value is True

    def duration(self, name: str) -> timedelta | None:
        """A duration, as `parse_duration` reads it."""
        text = self.text(name)
        if not text:
            return None
        duration = parse_duration(text)
        if duration is None:
            self._complain(
                self._at(name), f'"{text[:50]}" is no duration; write one like 30s, 15m, 12h or 90d'
            )
        return duration

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; a single text stands for a list of one."""
        value = self._take(name)
        if value is None:
            return ()
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list):
            self._complain(self._at(name), f"a list of texts is needed here, not {_kind(value)}")
            return ()
        for index, item in enumerate(value):
            if not isinstance(item, str):
                path = f"{self._at(name)}[{index}]"
                self._complain(path, f"text is needed here, not {_kind(item)}")
        return tuple(item for item in value if isinstance(item, str))

    def texts_by_name(self, name: str) -> dict[str, str]:
        """Texts by name, in order."""
        value = self._take(name)
        path = self._at(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self._complain(path, f"a mapping by name is needed here, not {_kind(value)}")
            return {}
        for key, text in value.items():
            if not isinstance(key, str) or not isinstance(text, str):
                self._complain(f"{path}[{key!s:.50}]", "names and values must both be text")
        return {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, str)}

    def mapping(self, name: str) -> Fields:
        """The fields of a mapping."""
        return Fields(self._take(name), self._at(name), self._problems)

    def named(self, name: str, read: Callable[[str, Fields], T]) -> tuple[T, ...]:
        """Named things in order: a mapping by name, or a list of names alone.

        A thing may be given in short: a preset as its scopes, a resource as its levels,
        anything else as its description.
        """
        value = self._take(name)
        path = self._at(name)
        if value is None:
            return ()
        if isinstance(value, list):
            value = dict.fromkeys(self._names(path, value))
        if not isinstance(value, Mapping):
            self._complain(path, f"a mapping by name is needed here, not {_kind(value)}")
            return ()
        things = []
        for key, thing in value.items():
            if not isinstance(key, str):
                self._complain(path, f"the name {key!r:.50} must be text; put it in quotes")
                continue
            fields = Fields(_long_form(name, thing), f"{path}[{key}]", self._problems)
            things.append(read(key, fields))
            fields.finish()
        return tuple(things)

    def _names(self, path: str, items: list[object]) -> list[str]:
        names = [item for item in items if isinstance(item, str)]
        for index, item in enumerate(items):
            if not isinstance(item, str):
                self._complain(f"{path}[{index}]", f"a name is needed here, not {_kind(item)}")
        for name, count in Counter(names).items():
            if count > 1:
                self._complain(path, f'"{name[:100]}" stands in it twice')
        return names

    def finish(self) -> None:
        """Complains about every field that was not asked for."""
        for name in self._fields:
            if name not in self._known:
                nearest = difflib.get_close_matches(str(name)[:100], self._known, n=1)
                hint = f'did you mean "{nearest[0]}"?' if nearest else f"known: {self._choices()}"
                path = self._at(str(name)[:100])
                message = f"there is no such field; {hint}"
                self._problems.append(Problem(path, message, is_of_name=True))

    def _choices(self) -> str:
        return ", ".join(dict.fromkeys(self._known))

    def _take(self, name: str) -> object:
        self._known.append(name)
        return self._fields.get(name)

    def _at(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def _complain(self, path: str, message: str) -> None:
        self._problems.append(Problem(path or "keyspace", message))


def _long_form(where: str, thing: object) -> object:
    field = _SHORT_LISTS.get(where)
    if field is None:
        return {"description": thing} if isinstance(thing, str) else thing
    if isinstance(thing, str):
        return {field: [thing]}
    return {field: thing} if isinstance(thing, list) else thing


def _kind(value: object) -> str:
    for kind, name in (
        (bool, "true or false"),
        (int, "a number"),
        (float, "a number"),
        (str, "text"),
        (list, "a list"),
        (Mapping, "a mapping"),
        (type(None), "nothing"),
    ):
        if isinstance(value, kind):
            return name
    return f"a {type(value).__name__}"
