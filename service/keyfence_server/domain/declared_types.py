"""The types of a declaration's fields: what they accept, and how a document writes them.

A document is plain data of JSON types, as a keyspace file holds it and the store keeps it.
Every type here reads its short forms, and accepts its own values as they are. What is
empty is not written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final, get_args, get_type_hints

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    Strict,
    WithJsonSchema,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from keyfence_server.domain.durations import format_duration, parse_duration
from keyfence_server.domain.limits import Rate, parse_rate
from keyfence_server.domain.text_templates import InvalidTemplate, json_data, json_text

NAME_IN_DOCUMENT: Final = "(name)"
"""The field under which an item of a mapping gets its name while it is read."""

_SHOWN: Final = 50
_KINDS: Final = (
    (bool, "true or false"),
    (int | float, "a number"),
    (str, "text"),
    (list | tuple, "a list"),
    (Mapping, "a mapping"),
    (type(None), "nothing"),
)


def kind_of(value: object) -> str:
    """What a value of a document is, in words."""
    return next((name for kind, name in _KINDS if isinstance(value, kind)), type(value).__name__)


class Section:
    """A mapping with known fields. A field that holds nothing is absent, unless it is a section
    itself: then it is an empty one."""

    __slots__ = ()
    __pydantic_config__ = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nothing(cls, value: Any) -> Any:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            return value
        if None not in value.values():
            return value
        known, hints = names_in_documents(cls), get_type_hints(cls)
        return {
            name: item
            for name, item in value.items()
            if item is not None or name not in known or any(sections_in(hints[known[name]]))
        }


def sections_in(hint: Any) -> Iterator[type[Section]]:
    """The sections that a field of this type holds."""
    if isinstance(hint, type) and issubclass(hint, Section):
        yield hint
    for part in get_args(hint):
        yield from sections_in(part)


_NAMES: Final[dict[type, Mapping[str, str]]] = {}
"""What `names_in_documents` has worked out: every item of a list asks again."""


def names_in_documents(section: type) -> Mapping[str, str]:
    """The fields of a section as documents name them, each with its name in the class."""
    if section in _NAMES:
        return _NAMES[section]
    names = {}
    for name, hint in get_type_hints(section, include_extras=True).items():
        aliases = (
            one.alias for one in getattr(hint, "__metadata__", ()) if isinstance(one, FieldInfo)
        )
        names[next(filter(None, aliases), name)] = name
    return _NAMES.setdefault(section, names)


def _read_nothing(value: object) -> object:
    return {} if value is None else value


NOTHING_IS_EMPTY: Final = BeforeValidator(_read_nothing)
"""Reads nothing as an empty section, where the section may be absent."""


def unless_empty(default: object) -> BeforeValidator:
    """Reads an empty value as the default."""
    return BeforeValidator(lambda value: value or default)


def _is_empty(value: object) -> bool:
    return not value


OMIT_IF_EMPTY: Final[Any] = Field(exclude_if=_is_empty)


def _read_texts(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list | tuple):
        raise ValueError(f"a list of strings is needed here, not {kind_of(value)}")  # noqa: TRY004
    return tuple(value)


def _read_as(
    kind: type, parse: Callable[[str], object], what: str, like: str, forms: str
) -> BeforeValidator:
    """Reads a value of this kind from its text."""

    def read(value: object) -> object:
        if value is None or isinstance(value, kind):
            return value
        if not isinstance(value, str):
            raise ValueError(f"{what} like {like} is needed here, not {kind_of(value)}")  # noqa: TRY004
        found = parse(value)
        if value and found is None:
            raise ValueError(f'"{value[:_SHOWN]}" is not {what}; write one like {forms}')
        return found

    return BeforeValidator(read)


_READ_DURATION: Final = _read_as(
    timedelta, parse_duration, "a duration", "90d", "30s, 15m, 12h or 90d"
)
_READ_RATE: Final = _read_as(Rate, parse_rate, "a rate", "60/minute", "60/minute or 100/10s")


def _read_body(value: object) -> object:
    """JSON in its one form, and any other text as it is."""
    if isinstance(value, Mapping):
        return json_text(value)
    if not isinstance(value, str):
        raise ValueError("a mapping is needed here for JSON, or a string for text/plain")  # noqa: TRY004
    try:
        data = json_data(value)
    except InvalidTemplate:
        return value
    return json_text(data) if isinstance(data, dict) else value


def _write_body(text: str) -> object:
    try:
        data = json_data(text)
    except InvalidTemplate:
        return text
    return data if isinstance(data, dict) and data else text


_StrictText = Annotated[str, Strict()]
_TEXT_SCHEMA: Final = {"type": "string"}
_TEXTS_SCHEMA: Final = {"type": ["string", "array"], "items": _TEXT_SCHEMA}

Text = Annotated[_StrictText, OMIT_IF_EMPTY]
Texts = Annotated[
    tuple[_StrictText, ...],
    BeforeValidator(_read_texts),
    OMIT_IF_EMPTY,
    WithJsonSchema(_TEXTS_SCHEMA),
]
"""A list of texts. One text stands for a list of one."""
Flag = Annotated[bool, Strict(), OMIT_IF_EMPTY]
Number = Annotated[int, Strict(), Field(ge=-(2**31), lt=2**31)]
OptionalNumber = Annotated[Number, OMIT_IF_EMPTY]
"""A number for which 0 stands for none."""
Duration = Annotated[
    timedelta,
    _READ_DURATION,
    PlainSerializer(format_duration),
    WithJsonSchema({**_TEXT_SCHEMA, "examples": ["30s", "15m", "12h", "90d"]}),
]
OptionalDuration = Annotated[
    timedelta | None,
    _READ_DURATION,
    PlainSerializer(format_duration),
    OMIT_IF_EMPTY,
    WithJsonSchema({**_TEXT_SCHEMA, "examples": ["30s", "15m", "12h", "90d"]}),
]
OptionalRate = Annotated[
    Rate | None,
    _READ_RATE,
    PlainSerializer(str),
    OMIT_IF_EMPTY,
    WithJsonSchema({**_TEXT_SCHEMA, "examples": ["60/minute", "100/10s"]}),
]
Body = Annotated[
    _StrictText,
    BeforeValidator(_read_body),
    PlainSerializer(_write_body),
    OMIT_IF_EMPTY,
    WithJsonSchema({"type": ["object", "string"]}),
]
"""The body of an HTTP answer. JSON is a mapping in a document, and a text elsewhere."""


@dataclass(frozen=True, slots=True)
class ItemsByName:
    """The annotation of a list of named items. A document holds a mapping by name, in order,
    or a list of names alone.

    Attributes:
        short: the field that an item's value stands for, where the item is not a mapping.
            Empty: an item is always a mapping.
    """

    short: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(
            self._read,
            handler(source),
            serialization=core_schema.wrap_serializer_function_ser_schema(self._write),
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        section = handler(schema)["items"]
        forms: list[JsonSchemaValue] = [section, {"type": "null"}]
        if self.short == "description":
            forms.append(_TEXT_SCHEMA)
        elif self.short:
            forms.append(_TEXTS_SCHEMA)
        return {
            "type": ["object", "array"],
            "additionalProperties": {"anyOf": forms},
            "items": _TEXT_SCHEMA,
        }

    def _read(self, value: object) -> object:
        if isinstance(value, tuple):
            return value
        if isinstance(value, list):
            for name, count in Counter(one for one in value if isinstance(one, str)).items():
                if count > 1:
                    raise ValueError(f'"{name[:_SHOWN]}" is in the list twice')
            return tuple({NAME_IN_DOCUMENT: one} if isinstance(one, str) else one for one in value)
        if isinstance(value, Mapping):
            return tuple(self._read_item(name, item) for name, item in value.items())
        raise ValueError(f"a mapping by name is needed here, not {kind_of(value)}")

    def _read_item(self, name: object, item: object) -> object:
        if item is None:
            return {NAME_IN_DOCUMENT: name}
        if isinstance(item, Mapping):
            return {**item, NAME_IN_DOCUMENT: name}
        if self.short == "description" and isinstance(item, str):
            return {NAME_IN_DOCUMENT: name, self.short: item}
        if self.short in {"scopes", "levels"} and isinstance(item, str | list):
            return {NAME_IN_DOCUMENT: name, self.short: [item] if isinstance(item, str) else item}
        return item

    def _write(self, items: object, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        written: dict[str, object] = {}
        for item in handler(items):
            name = item.pop(NAME_IN_DOCUMENT)
            is_short = self.short == "description" and item.keys() <= {self.short}
            written[name] = item.get(self.short, "") if is_short else item
        return written
