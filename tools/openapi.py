"""An OpenAPI 3.1 document of the RPCs that have REST annotations.

Types follow the JSON mapping of protocol buffers, which Envoy's transcoding uses. Descriptions are
the comments of the protos.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

from keyfence.v1 import options_pb2

Schema = dict[str, Any]

_PACKAGE: Final = "keyfence.v1"
_FIRST_SENTENCE: Final = re.compile(r"(.+?)\.(?:\s|$)", re.DOTALL)
_PLACEHOLDER: Final = re.compile(r"\{([a-z0-9_.]+)\}")

_CREDENTIALS: Final[list[Schema]] = [{"bearer": []}, {"apiKey": []}]

_SCALARS: Final[Mapping[int, Schema]] = {
    FieldDescriptorProto.TYPE_STRING: {"type": "string"},
    FieldDescriptorProto.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptorProto.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptorProto.TYPE_UINT32: {"type": "integer", "format": "uint32"},
    # A JSON number would lose digits of a 64-bit integer, so it is a string.
    FieldDescriptorProto.TYPE_INT64: {"type": "string", "format": "int64"},
    FieldDescriptorProto.TYPE_UINT64: {"type": "string", "format": "uint64"},
    FieldDescriptorProto.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptorProto.TYPE_DOUBLE: {"type": "number", "format": "double"},
}

_WELL_KNOWN: Final[Mapping[str, Schema]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "examples": ["3600s"]},
    "google.protobuf.FieldMask": {"type": "string", "examples": ["displayName,labels"]},
    "google.protobuf.Struct": {"type": "object"},
}

_ERROR: Final[Schema] = {
    "type": "object",
    "description": (
        "An error, as google.rpc.Status. If it is from Keyfence, one of its details is a "
        "google.rpc.ErrorInfo, whose reason programs can go by. What the gateway refuses by "
        "itself has no details."
    ),
    "properties": {
        "code": {"type": "integer", "format": "int32", "description": "The gRPC status code."},
        "message": {"type": "string", "description": "What was wrong, for a developer to read."},
        "details": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "@type": {"type": "string"},
                    "reason": {"type": "string"},
                    "domain": {"type": "string"},
                    "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
                },
                "additionalProperties": True,
            },
        },
    },
}


@dataclass(frozen=True)
class Binding:
    """One way to call an RPC over REST."""

    verb: str
    path: str
    body: str


def openapi_document(described: FileDescriptorSet) -> Schema:
    """The document. Raises `LookupError` for a type that is not known here."""
    types = _Types(described)
    paths: dict[str, Schema] = {}
    tags = []
    for file in described.file:
        if file.package != _PACKAGE:
            continue
        for index, service in enumerate(file.service):
            tag = service.name.removesuffix("Service")
            tags.append({"name": tag, "description": _comment(file, 6, index)})
            for number, method in enumerate(service.method):
                comment = _comment(file, 6, index, 2, number)
                for order, binding in enumerate(_bindings(method)):
                    path = _PLACEHOLDER.sub(lambda found: f"{{{_in_path(found[1])}}}", binding.path)
                    operation = types.operation(method, binding, comment)
                    operation["operationId"] = method.name + ("" if order == 0 else f"_{order}")
                    operation["tags"] = [tag]
                    paths.setdefault(path, {})[binding.verb] = operation
    used = {tag for path in paths.values() for one in path.values() for tag in one["tags"]}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Keyfence",
            "version": "v1",
            "description": (
                "The management API of Keyfence over REST, as `keyfence gateway` serves it. "
                "The same calls, and those that services make, are there over gRPC and gRPC-Web."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": _CREDENTIALS,
        "tags": [tag for tag in tags if tag["name"] in used],
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
            "schemas": types.components(),
        },
    }


class _Types:
    """The messages and enums, and the schemas of those that are needed."""

    def __init__(self, described: FileDescriptorSet) -> None:
        self._messages: dict[str, tuple[DescriptorProto, FileDescriptorProto, tuple[int, ...]]] = {}
        self._enums: dict[str, tuple[EnumDescriptorProto, FileDescriptorProto, int]] = {}
        for file in described.file:
            for index, message in enumerate(file.message_type):
                self._add(f".{file.package}.{message.name}", message, file, (4, index))
            for index, enum in enumerate(file.enum_type):
                self._enums[f".{file.package}.{enum.name}"] = (enum, file, index)
        self._needed: dict[str, Schema] = {"Error": _ERROR}

    def _add(
        self, name: str, message: DescriptorProto, file: FileDescriptorProto, at: tuple[int, ...]
    ) -> None:
        self._messages[name] = (message, file, at)
        for index, nested in enumerate(message.nested_type):
            self._add(f"{name}.{nested.name}", nested, file, (*at, 3, index))

    def components(self) -> Schema:
        """The schemas that operations refer to, by name."""
        return dict(sorted(self._needed.items()))

    def operation(self, method: MethodDescriptorProto, binding: Binding, comment: str) -> Schema:
        """An operation without its id and tags."""
        summary = _FIRST_SENTENCE.match(comment)
        operation: Schema = {"summary": summary[1] if summary else "", "description": comment}
        operation |= _security(method)
        in_path = _PLACEHOLDER.findall(binding.path)
        parameters = [self._parameter(method.input_type, name, "path") for name in in_path]
        if binding.body != "*":
            parameters += [
                self._parameter(method.input_type, field.name, "query")
                for field in self._messages[method.input_type][0].field
                if field.name not in (*in_path, binding.body)
            ]
        if parameters:
            operation["parameters"] = parameters
        if binding.body:
            kind = method.input_type
            if binding.body != "*":
                kind = self._field(kind, binding.body)[0].type_name
            operation["requestBody"] = {
                "required": True,
                # The gateway refuses what it does not know. Answers may grow.
                "content": {
                    "application/json": {
                        "schema": {**self._message(kind), "unevaluatedProperties": False}
                    }
                },
            }
        operation["responses"] = {
            "200": {
                "description": "Done.",
                "content": {"application/json": {"schema": self._message(method.output_type)}},
            },
            "default": {
                "description": "An error.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        }
        return operation

    def _parameter(self, message: str, path: str, place: str) -> Schema:
        *outer, name = path.split(".")
        for step in outer:
            message = self._field(message, step)[0].type_name
        field, description = self._field(message, name)
        schema = self._schema(field)
        schema.pop("description", None)
        parameter: Schema = {"name": _camel(path), "in": place, "schema": schema}
        if place == "path":
            parameter |= {"name": _in_path(path), "required": True}
        return {**parameter, "description": description} if description else parameter

    def _field(self, message: str, name: str) -> tuple[FieldDescriptorProto, str]:
        described, file, at = self._messages[message]
        for index, field in enumerate(described.field):
            if field.name == name:
                return field, _comment(file, *at, 2, index)
        raise LookupError(f"{message} has no field {name}")

    def _message(self, name: str) -> Schema:
        short = name.rpartition(".")[2]
        if short not in self._needed:
            described, file, at = self._messages[name]
            # Noted before its fields, which may be of the same type.
            schema = self._needed[short] = {"type": "object"}
            if comment := _comment(file, *at):
                schema["description"] = comment
            schema["properties"] = {
                field.json_name: self._property(field, _comment(file, *at, 2, index))
                for index, field in enumerate(described.field)
            }
        return {"$ref": f"#/components/schemas/{short}"}

    def _property(self, field: FieldDescriptorProto, description: str) -> Schema:
        schema = self._schema(field)
        if field.options.debug_redact:
            schema["format"] = "password"
        return {**schema, "description": description} if description else schema

    def _schema(self, field: FieldDescriptorProto) -> Schema:
        entry = self._messages.get(field.type_name)
        if entry is not None and entry[0].options.map_entry:
            return {"type": "object", "additionalProperties": self._single(entry[0].field[1])}
        single = self._single(field)
        if field.label == FieldDescriptorProto.LABEL_REPEATED:
            return {"type": "array", "items": single}
        return single

    def _single(self, field: FieldDescriptorProto) -> Schema:
        if field.type == FieldDescriptorProto.TYPE_ENUM:
            return self._enum(field.type_name)
        if field.type == FieldDescriptorProto.TYPE_MESSAGE:
            known = _WELL_KNOWN.get(field.type_name.removeprefix("."))
            return dict(known) if known is not None else self._message(field.type_name)
        return dict(_SCALARS[field.type])

    def _enum(self, name: str) -> Schema:
        short = name.rpartition(".")[2]
        if short not in self._needed:
            described, file, index = self._enums[name]
            lines = [_comment(file, 5, index)]
            for number, value in enumerate(described.value):
                lines.append(f"- `{value.name}`: {_comment(file, 5, index, 2, number)}")
            self._needed[short] = {
                "type": "string",
                "enum": [value.name for value in described.value],
                "description": "\n".join(filter(None, lines)),
            }
        return {"$ref": f"#/components/schemas/{short}"}


def _bindings(method: MethodDescriptorProto) -> Iterator[Binding]:
    # Its stubs know the extension as any descriptor.
    annotation: Any = annotations_pb2.http
    if not method.options.HasExtension(annotation):
        return
    rule = method.options.Extensions[annotation]
    for one in (rule, *rule.additional_bindings):
        verb = one.WhichOneof("pattern")
        if verb is None or verb == "custom":
            raise LookupError(f"{method.name}: a method that OpenAPI does not know")
        yield Binding(verb, getattr(one, verb), one.body)


def _security(method: MethodDescriptorProto) -> Schema:
    """What the operation says of credentials, if not what the document says of all."""
    options: Any = method.options
    if options.Extensions[options_pb2.access] != options_pb2.ACCESS_PUBLIC:
        return {}
    # With a scope, an operator may call it where no other caller may.
    return {
        "security": [{}, *_CREDENTIALS] if options.Extensions[options_pb2.required_scope] else []
    }


def _in_path(path: str) -> str:
    """What a field is called in a path: one path must not have two names for one place."""
    return _camel(path.rpartition(".")[2])


def _camel(path: str) -> str:
    return ".".join(
        re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), part) for part in path.split(".")
    )


def _comment(file: FileDescriptorProto, *path: int) -> str:
    """The comment before what stands there, its lines joined and its paragraphs kept."""
    for location in file.source_code_info.location:
        if tuple(location.path) == path:
            return _paragraphs(location.leading_comments.splitlines())
    return ""


def _paragraphs(lines: Iterable[str]) -> str:
    text = "\n".join(line.strip() for line in lines).strip()
    return "\n\n".join(paragraph.replace("\n", " ") for paragraph in re.split(r"\n{2,}", text))
