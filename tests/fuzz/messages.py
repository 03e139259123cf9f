"""Requests for the fuzzer: well-formed ones that reach the handlers, and broken ones.

A request starts as a message whose fields hold values that fit them, so that many requests pass
validation. Then some fields get boundary values, and some requests are damaged on the wire.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

MAX_DEPTH: Final = 4
MAX_REPEATED: Final = 40

_ODD_TEXTS: Final = (
    "", " ", "*", "a", "-", "\x00", "é", "\u202e", "\U0001f511", "null", "1e9", "..", "/", "%2F",
    "a" * 300, "x" * 70_000, "' OR 1=1 --", "${jndi:x}", "{body}", "\u200d",
)  # fmt: skip
_SIGNED: Final = (0, 1, -1, 2, 7, 100, 1_000, 10_000, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))
_UNSIGNED: Final = (0, 1, 2, 7, 100, 10_000, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
_SECONDS: Final = (0, 1, -1, 60, 1_700_000_000, 4_000_000_000, 253_402_300_799, 2**62, -(2**62))
_NANOS: Final = (0, 1, 999_999_999, 1_000_000_000, -1, 2**31 - 1)
_PATHS: Final = (
    "state", "display_name", "granted_scopes", "expire_time", "labels", "allowed_addresses",
    "rate_limit", "bound_keyspaces", "key_id", "no_such_field", "key.state", "*", "", "state.x",
)  # fmt: skip
# Appended to an encoded message: an unknown field, a varint of more than 64 bits, a length beyond
# the end, a group that never ends, field number zero, the end in the middle of a tag.
_DAMAGE: Final = (
    b"\xfa\x7f\x03abc",
    b"\x08" + b"\xff" * 10 + b"\x01",
    b"\x0a\xff\xff\xff\xff\x0f",
    b"\x0b" * 40,
    b"\x00\x00",
    b"\xff",
)


class Requests:
    """Makes random requests.

    Args:
        chance: decides everything, so that a seed makes the same requests again.
        values: for string fields, by the field's name: values that fit it.
    """

    def __init__(self, chance: random.Random, values: Mapping[str, Sequence[str]]) -> None:
        self._chance = chance
        self._values = values
        self._all = [text for texts in values.values() for text in texts]
        self._density = self._oddness = 0.0

    def encoded(self, descriptor: Descriptor) -> bytes:
        """A request of this type, encoded, and sometimes damaged."""
        # Some requests are nearly right, so that they reach the handlers; some are noise.
        self._density = self._chance.choice([0.15, 0.4, 0.8])
        self._oddness = self._chance.choice([0.0, 0.0, 0.03, 0.3])
        raw = self.message(descriptor).SerializeToString()
        if self._chance.random() < 0.05:
            return raw + self._chance.choice(_DAMAGE)
        if raw and self._chance.random() < 0.05:
            at = self._chance.randrange(len(raw))
            return raw[:at] + self._chance.randbytes(1) + raw[at + 1 :]
        return raw

    def message(self, descriptor: Descriptor, depth: int = 0) -> Message:
        """A message of this type."""
        special: Callable[[Descriptor], Message] | None = {
            "google.protobuf.Timestamp": self._moment,
            "google.protobuf.Duration": self._moment,
            "google.protobuf.FieldMask": self._mask,
        }.get(descriptor.full_name)
        if special is not None:
            return special(descriptor)
        made = message_factory.GetMessageClass(descriptor)()
        for field in descriptor.fields:
            is_likely = depth == 0 and field.name in self._values
            if self._chance.random() < (0.9 if is_likely else self._density):
                self._fill(made, field, depth)
        return made

    def _moment(self, descriptor: Descriptor) -> Any:
        make: Any = message_factory.GetMessageClass(descriptor)
        if self._is_odd():
            return make(seconds=self._chance.choice(_SECONDS), nanos=self._chance.choice(_NANOS))
        is_moment = descriptor.name == "Timestamp"
        return make(seconds=4_000_000_000 if is_moment else self._chance.choice([0, 60, 3_600]))

    def _mask(self, descriptor: Descriptor) -> Any:
        make: Any = message_factory.GetMessageClass(descriptor)
        return make(paths=self._chance.choices(_PATHS, k=self._chance.choice([0, 1, 1, 2])))

    def _is_odd(self) -> bool:
        return self._chance.random() < self._oddness

    def _fill(self, made: Message, field: FieldDescriptor, depth: int) -> None:
        kind = field.message_type
        if kind is not None and depth >= MAX_DEPTH:
            return
        if kind is not None and kind.GetOptions().map_entry:
            self._fill_map(getattr(made, field.name), kind.fields_by_name["value"], depth)
        elif field.is_repeated:
            values = getattr(made, field.name)
            for _ in range(self._chance.choice([1, 1, 2, MAX_REPEATED if self._is_odd() else 1])):
                if kind is not None:
                    values.append(self.message(kind, depth + 1))
                else:
                    values.append(self._scalar(field))
        elif kind is not None:
            getattr(made, field.name).CopyFrom(self.message(kind, depth + 1))
        else:
            setattr(made, field.name, self._scalar(field))

    def _fill_map(self, values: Any, item: FieldDescriptor, depth: int) -> None:
        for _ in range(self._chance.choice([1, 1, 2, MAX_REPEATED])):
            if item.message_type is None:
                values[self._text("")] = self._scalar(item)
            else:
                values[self._text("")].CopyFrom(self.message(item.message_type, depth + 1))

    def _scalar(self, field: FieldDescriptor) -> object:
        chance = self._chance
        if field.type == FieldDescriptor.TYPE_BYTES:
            return chance.randbytes(chance.choice([0, 1, 16, 32, 5_000]))
        if field.enum_type is not None:
            known = [value.number for value in field.enum_type.values]
            return chance.choice([99, -1] if self._is_odd() else known)
        kind = field.cpp_type
        if kind == FieldDescriptor.CPPTYPE_STRING:
            return self._text(field.name)
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return chance.random() < 0.5
        if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
            return chance.choice([0.0, 1.0, -1.0, 1e300, float("inf"), float("nan")])
        if not self._is_odd():
            return chance.choice([0, 1, 2, 10])
        is_wide = kind in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
        is_signed = kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)
        value = chance.choice(_SIGNED if is_signed else _UNSIGNED)
        if is_wide:
            return value
        return max(-(2**31), min(value, 2**31 - 1)) if is_signed else min(value, 2**32 - 1)

    def _text(self, name: str) -> str:
        if self._is_odd():
            return self._chance.choice([*_ODD_TEXTS, *self._all])
        text = self._chance.choice(self._values.get(name, self._all))
        # A page token or key that is nearly right gets further than one that is made up.
        if text and self._chance.random() < self._oddness:
            at = self._chance.randrange(len(text))
            return text[:at] + self._chance.choice("aZ0_=-") + text[at + 1 :]
        return text
