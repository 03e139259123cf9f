"""Which fields a REST request may have, for the Lua script that checks requests in Envoy.

The fields come from the descriptors that Envoy's transcoder uses, so both know the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any, Final

from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

_NO_FIELDS: Final = "no fields"
_ANY_NAME: Final = "*"
# JSON writes these messages as strings or numbers, not as objects with their fields.
_WELL_KNOWN: Final = "google.protobuf."
_VARIABLE: Final = re.compile(r"\{([^}=]*)[^}]*\}")


def request_script(descriptors: bytes, services: tuple[str, ...]) -> str:
    """The Lua script, with the methods of these services and the fields of their requests.

    Args:
        descriptors: a serialized `FileDescriptorSet`.
        services: full names, for example "keyfence.v1.KeyService".
    """
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(descriptors).file:
        pool.Add(file)
    messages = _Messages()
    methods = [
        _lua(binding)
        for service in services
        for method in pool.FindServiceByName(service).methods
        for binding in _bindings(method, messages)
    ]
    fields = [f"[{_lua(kind)}] = {_lua(known)}" for kind, known in sorted(messages.fields.items())]
    code = files(__package__).joinpath("rest_requests.lua").read_text(encoding="utf-8")
    return f"local METHODS = {_lines(methods)}\nlocal FIELDS = {_lines(fields)}\n{code}"


class _Messages:
    """The messages that requests consist of.

    Attributes:
        fields: by a message's full name and a field's name in either spelling: the field's
            `name` in the protos, `kind` (the message that it holds, if it holds one) and
            `is_list`. A map has one field, "*".
    """

    def __init__(self) -> None:
        self.fields: dict[str, dict[str, dict[str, Any]]] = {_NO_FIELDS: {}}

    def kind(self, message: Descriptor) -> str:
        """Adds a message and the messages in it to `fields`. Returns its name."""
        name: str = message.full_name
        if name not in self.fields:
            # Added before its fields, which may hold the same message.
            known = self.fields[name] = {}
            for field in message.fields:
                entry: dict[str, Any] = {"name": field.name}
                if (inner := self.kind_in(field)) is not None:
                    entry["kind"] = inner
                if field.is_repeated:
                    entry["is_list"] = True
                known |= {field.name: entry, field.json_name: entry}
        return name

    def kind_in(self, field: FieldDescriptor) -> str | None:
        """The message that a field holds; None if JSON does not write an object there."""
        message = field.message_type
        if message is None or message.full_name.startswith(_WELL_KNOWN):
            return None
        if not message.GetOptions().map_entry:
            return self.kind(message)
        inner = self.kind_in(message.fields_by_name["value"])
        self.fields[message.full_name] = {_ANY_NAME: {} if inner is None else {"kind": inner}}
        return str(message.full_name)


def _bindings(method: MethodDescriptor, messages: _Messages) -> Iterator[dict[str, Any]]:
    """How the annotation `google.api.http` offers a method. None or several ways are possible."""
    # The extension's stubs have no usable type.
    annotation: Any = annotations_pb2.http
    rule = method.GetOptions().Extensions[annotation]
    for one in (rule, *rule.additional_bindings):
        verb = one.WhichOneof("pattern")
        if verb is not None:
            path: str = getattr(one, verb)
            kind: str | None = messages.kind(method.input_type)
            if one.body != "*":
                field = method.input_type.fields_by_name.get(one.body)
                kind = messages.kind_in(field) if field is not None else None
            yield {
                "verb": verb.upper(),
                "path": _pattern(path),
                "input": messages.kind(method.input_type),
                "body": kind or _NO_FIELDS,
                "variables": _variables(path, one.body),
                "elsewhere": _not_in_query(path, one.body),
            }


def _not_in_query(path: str, body: str) -> dict[str, str]:
    """The fields that do not belong into the query, and where they belong."""
    in_body = {body: "body"} if body else {}
    return in_body | {found[1]: "path" for found in _VARIABLE.finditer(path)}


def _variables(path: str, body: str) -> dict[str, int]:
    """The variables of a path, by where they would be in the body, and their places in it."""
    names = [found[1] for found in _VARIABLE.finditer(path)]
    prefix = "" if body == "*" else f"{body}."
    return {
        name.removeprefix(prefix): index
        for index, name in enumerate(names, 1)
        if name.startswith(prefix)
    }


def _pattern(path: str) -> str:
    """Lua's pattern of the paths that a template stands for. It captures the variables."""
    literal = (re.sub(r"([^\w/])", r"%\1", part) for part in re.split(r"\{[^}]*\}", path))
    return "^" + "([^/]+)".join(literal) + "$"


def _lua(value: object) -> str:
    """A Lua literal. Texts are names and patterns, without quotes or backslashes."""
    if isinstance(value, Mapping):
        entries = (f"[{_lua(name)}] = {_lua(one)}" for name, one in sorted(value.items()))
        return "{" + ", ".join(entries) + "}"
    if isinstance(value, bool | int):
        return str(value).lower()
    return f'"{value}"'


def _lines(entries: list[str]) -> str:
    return "{\n" + "".join(f"  {entry},\n" for entry in entries) + "}"
