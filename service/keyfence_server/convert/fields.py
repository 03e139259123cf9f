"""A message's fields as values of the domain by their names, and back.

The requests of the use cases and the declarations of keyspaces have the field names of the
API's messages. So a new field needs no line here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from enum import Enum
from typing import Any, Final, TypeVar

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from keyfence.v1 import rate_limit_pb2
from keyfence_server.convert.limits import rate_from, rate_of
from keyfence_server.convert.times import duration_from, duration_of, time_from
from keyfence_server.domain.errors import InvalidInput, Name, Path, path_text
from keyfence_server.domain.limits import Rate

T = TypeVar("T")

_SECOND_WORD: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")

# The messages that stand for a value of one type, and how each is converted.
_FROM: Final[Mapping[str, Callable[[Any, str], object]]] = {
    Duration.DESCRIPTOR.full_name: duration_from,
    rate_limit_pb2.RateLimit.DESCRIPTOR.full_name: rate_from,
    Timestamp.DESCRIPTOR.full_name: time_from,
}
_OF: Final[Mapping[type, Callable[[Any], Message]]] = {timedelta: duration_of, Rate: rate_of}

_TEXTS_AN_ITEM: Final = 50
_TEXTS_AT_ONCE: Final = 5_000


def value_from(kind: type[T], message: Message, **others: object) -> T:
    """The value of a class that has the fields of a message, as far as the class has them too.

    Args:
        others: fields that are not in the message, or not as the class has them.
    """
    return kind(**fields_for(kind, message) | others)


def fields_for(kind: type[Any], message: Message) -> dict[str, Any]:
    """The fields of a message that a class has too, as its constructor takes them. What is not
    set is left out."""
    names = frozenset(field.name for field in dataclasses.fields(kind))
    return fields_of(message, (), names)


def fields_of(
    message: Message, path: Path, wanted: frozenset[str] | None = None
) -> dict[str, object]:
    """A message's fields by name. A message that is not set is left out, an empty value of
    another type is not."""
    return {
        field.name: _value_from(field, getattr(message, field.name), (*path, field.name))
        for field in message.DESCRIPTOR.fields
        if (wanted is None or field.name in wanted)
        and (not field.has_presence or message.HasField(field.name))
    }


def _value_from(field: Any, value: Any, path: Path) -> object:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        return dict(value)
    if field.is_repeated and kind is not None:
        return tuple(fields_of(one, (*path, _step(one, index))) for index, one in enumerate(value))
    if field.is_repeated:
        return tuple(value)
    if kind is not None:
        convert = _FROM.get(kind.full_name)
        return convert(value, path_text(path)) if convert else fields_of(value, path)
    if field.enum_type is not None:
        return _name_from(field.enum_type, value, path)
    return value


def _step(item: Message, index: int) -> int | Name:
    name = getattr(item, "name", "")
    return Name(name) if name else index


def _name_from(enum: EnumDescriptor, number: int, path: Path) -> str:
    """The name of an enum's value, without the enum's own, in lower case; empty for the
    unspecified value."""
    value = enum.values_by_number.get(number)
    if value is None:
        raise InvalidInput.field(path, f"{number} is not a value of {enum.name}")
    if number == 0:
        return ""
    return value.name.lower().removeprefix(f"{in_lower_case(enum.name)}_")


def in_lower_case(name: str) -> str:
    """The name of a message, an enum or an RPC in lower case: "key_state" for "KeyState"."""
    return _SECOND_WORD.sub("_", name).lower()


def fill(message: Message, value: Any) -> None:
    """Sets a message's fields from the fields of the same names of a dataclass."""
    message.SetInParent()
    for _ in fill_in_steps(message, value):
        pass


def fill_in_steps(message: Message, declared: Any) -> Iterator[int]:
    """Sets a message's fields from the fields of the same names, in steps, and yields after each
    how many items it took."""
    for one in dataclasses.fields(declared):
        value = getattr(declared, one.name)
        field: Any = message.DESCRIPTOR.fields_by_name[one.name]
        target = getattr(message, one.name)
        if value is None:
            continue
        if (convert := _OF.get(type(value))) is not None:
            target.CopyFrom(convert(value))
        elif isinstance(value, Mapping):
            target.update(value)
        elif isinstance(value, tuple) and field.message_type is not None:
            for item in value:
                yield from fill_in_steps(target.add(), item)
                yield 1
        elif isinstance(value, tuple):
            for start in range(0, len(value), _TEXTS_AT_ONCE):
                target.extend(value[start : start + _TEXTS_AT_ONCE])
                yield len(value[start : start + _TEXTS_AT_ONCE]) // _TEXTS_AN_ITEM
        elif dataclasses.is_dataclass(value):
            target.SetInParent()
            yield from fill_in_steps(target, value)
        elif isinstance(value, Enum):
            name = f"{field.enum_type.name}_{value.name}".upper()
            setattr(message, one.name, field.enum_type.values_by_name[name].number)
        else:
            setattr(message, one.name, value)
