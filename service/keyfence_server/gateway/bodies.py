"""What the bodies of REST may say, for the Lua in Envoy that looks at them.

It is read off the same descriptors that Envoy transcodes by, so the two know the same
fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any, Final

from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

# Messages that are written as something else than an object with their fields.
_WELL_KNOWN: Final = ".google.protobuf."
_NOTHING: Final = "nothing"
_ANYTHING: Final = "*"
_PLACEHOLDER: Final = re.compile(r"\{[^}]*\}")

Fields = dict[str, str | bool]


def body_script(descriptors: bytes, services: tuple[str, ...]) -> str:
    """The Lua, with the methods of these services and their fields."""
    described = FileDescriptorSet.FromString(descriptors)
    kinds = _Kinds(described)
    methods = [
        f"{{verb = {_quoted(verb)}, path = {_quoted(path)}, kind = {_quoted(kind)}}}"
        for verb, path, kind in _methods(described, services, kinds)
    ]
    fields = [
        f"[{_quoted(kind)}] = {_table(known)}" for kind, known in sorted(kinds.fields.items())
    ]
    code = files(__package__).joinpath("bodies.lua").read_text(encoding="utf-8")
    return f"local METHODS = {_lines(methods)}\nlocal FIELDS = {_lines(fields)}\n{code}"


class _Kinds:
    """The kinds of objects and what each may have.

    Attributes:
        fields: by kind and name: the kind of what is in it, or True for anything.
    """

    def __init__(self, described: FileDescriptorSet) -> None:
        self.fields: dict[str, Fields] = {_NOTHING: {}}
        self._messages = {
            name: message
            for file in described.file
            for name, message in _named(f".{file.package}", file.message_type)
        }

    def of_body(self, method: MethodDescriptorProto, body: str) -> str:
        """The kind of an RPC's body."""
        if not body:
            return _NOTHING
        if body == "*":
            return self._message(method.input_type)
        (field,) = (one for one in self._messages[method.input_type].field if one.name == body)
        return self._message(field.type_name)

    def _message(self, name: str) -> str:
        if name not in self.fields:
            # Noted before its fields, which may be of the same kind.
            known = self.fields[name] = {}
            for field in self._messages[name].field:
                inner = self._inner(field)
                known |= {field.name: inner, field.json_name: inner}
        return name

    def _inner(self, field: FieldDescriptorProto) -> str | bool:
        if field.type != FieldDescriptorProto.TYPE_MESSAGE:
            return True
        name = field.type_name
        if name.startswith(_WELL_KNOWN):
            return True
        message = self._messages[name]
        if not message.options.map_entry:
            return self._message(name)
        inner = self._inner(message.field[1])
        self.fields[name] = {_ANYTHING: inner}
        return name


def _methods(
    described: FileDescriptorSet, services: tuple[str, ...], kinds: _Kinds
) -> Iterator[tuple[str, str, str]]:
    # Its stubs know the extension as any descriptor.
    annotation: Any = annotations_pb2.http
    for file in described.file:
        for service in file.service:
            if f"{file.package}.{service.name}" not in services:
                continue
            for method in service.method:
                rule = method.options.Extensions[annotation]
                for one in (rule, *rule.additional_bindings):
                    verb = one.WhichOneof("pattern")
                    if verb is not None:
                        path = _pattern(getattr(one, verb))
                        yield verb.upper(), path, kinds.of_body(method, one.body)


def _pattern(path: str) -> str:
    """Lua's pattern of the paths that a template stands for."""
    literal = (re.sub(r"([^\w/])", r"%\1", part) for part in _PLACEHOLDER.split(path))
    return "^" + "[^/]+".join(literal) + "$"


def _named(prefix: str, messages: Any) -> Iterator[tuple[str, DescriptorProto]]:
    for message in messages:
        name = f"{prefix}.{message.name}"
        yield name, message
        yield from _named(name, message.nested_type)


def _table(fields: Mapping[str, str | bool]) -> str:
    entries = (
        f"[{_quoted(name)}] = {_quoted(inner) if isinstance(inner, str) else 'true'}"
        for name, inner in sorted(fields.items())
    )
    return "{" + ", ".join(entries) + "}"


def _lines(entries: list[str]) -> str:
    return "{\n" + "".join(f"  {entry},\n" for entry in entries) + "}"


def _quoted(text: str) -> str:
    return f'"{text}"'
