"""Turns a failed gRPC call into an error of `keyfence.errors`.

The status details travel as a serialised `google.rpc.Status` in trailing metadata.
Its messages are described here, in a descriptor pool of their own: the library needs
no `googleapis-common-protos`, and does not clash with an application that has it.
Only field numbers are on the wire, so the messages' names here are free
(https://github.com/googleapis/googleapis/tree/master/google/rpc, status.proto and
error_details.proto).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError

from keyfence import errors

_DETAILS_KEY: Final = "grpc-status-details-bin"
_REQUEST_ID_KEY: Final = "x-request-id"
_DOMAIN: Final = "keyfence"
_REDACTED: Final = "(redacted)"
# What is shorter is no key, and cutting it out would only garble the message.
_SHORTEST_SECRET: Final = 8
_LONGEST_RETRY_AFTER_SECONDS: Final = 60.0

_BY_STATUS: Final[Mapping[grpc.StatusCode, type[errors.CallFailed]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidRequest,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    grpc.StatusCode.ABORTED: errors.Aborted,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ResourceExhausted,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    # The server gave it up: it is flooded, or was stopped.
    grpc.StatusCode.CANCELLED: errors.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unimplemented,
}

_BY_REASON: Final[Mapping[str, type[errors.CallFailed]]] = {
    "UNKNOWN_SCOPE": errors.UnknownScope,
    "INVALID_KEYSPACE": errors.InvalidKeyspace,
    "REQUEST_ALREADY_DONE": errors.RequestAlreadyDone,
    "REVISION_CHANGED": errors.RevisionChanged,
}


class FailedCall(Protocol):
    """What synchronous and asynchronous gRPC errors have in common."""

    def code(self) -> grpc.StatusCode: ...

    def details(self) -> str | None: ...

    def trailing_metadata(self) -> Any: ...


@dataclass(slots=True)
class _Details:
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    violations: list[errors.FieldViolation] = field(default_factory=list)


def error_from_call(
    call: FailedCall, secrets: Iterable[str], timeout_seconds: float
) -> errors.CallFailed:
    """The error that a failed call stands for.

    Args:
        call: the error that gRPC raised.
        secrets: texts that must not appear in the error, even if the server's message has them.
        timeout_seconds: the deadline that the call had.
    """
    trailers = {str(key): value for key, value in call.trailing_metadata() or ()}
    message = call.details() or ""
    if call.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        message = f"no answer within {timeout_seconds:g} s"
    return build_error(
        call.code(),
        message,
        _read_details(trailers.get(_DETAILS_KEY)),
        request_id=str(trailers.get(_REQUEST_ID_KEY, "")),
        secrets=secrets,
    )


def retry_after_seconds_in(trailing_metadata: Any) -> float:
    """How long the server asks not to be called again for, in a failed call's trailers; 0 if it
    does not say so."""
    trailers = {str(key): value for key, value in trailing_metadata or ()}
    told = _read_details(trailers.get(_DETAILS_KEY)).metadata.get("retry_after_seconds", "")
    try:
        return min(max(0.0, float(told)), _LONGEST_RETRY_AFTER_SECONDS)
    except ValueError:
        return 0.0


def error_from_check(
    code: int, reason: str, message: str, metadata: Mapping[str, str], secrets: Iterable[str]
) -> errors.CallFailed:
    """Returns the error that this check of a batch would raise as a single check."""
    status = _STATUS_BY_NUMBER.get(code, grpc.StatusCode.UNKNOWN)
    return build_error(status, message, _Details(reason, dict(metadata)), secrets=secrets)


def build_error(
    status: grpc.StatusCode,
    message: str,
    details: _Details,
    *,
    request_id: str = "",
    secrets: Iterable[str] = (),
) -> errors.CallFailed:
    hidden = [secret for secret in secrets if len(secret) >= _SHORTEST_SECRET]

    def clean(text: str) -> str:
        for secret in hidden:
            text = text.replace(secret, _REDACTED)
        return text

    by_status = _BY_STATUS.get(status, errors.InternalError)
    by_reason = _BY_REASON.get(details.reason, by_status)
    # A reason refines its own status and never overrides another: what is caught as
    # "the request was wrong" must not hide an outage.
    kind = by_reason if issubclass(by_reason, by_status) else by_status
    metadata = {clean(name): clean(value) for name, value in details.metadata.items()}
    return kind(
        clean(message) or f"the call failed with {status.name}",
        status=status.name,
        reason=clean(details.reason),
        metadata=metadata,
        violations=[
            errors.FieldViolation(clean(violation.field), clean(violation.description))
            for violation in details.violations
        ],
        request_id=clean(request_id) or metadata.get("request_id", ""),
    )


def error_trailer(
    code: int, message: str, reason: str, metadata: Mapping[str, str], violations: Mapping[str, str]
) -> tuple[str, bytes]:
    """The trailer by which a server tells the details of an error.

    Args:
        violations: descriptions, by the field.
    """
    details: list[Any] = [_ERROR_INFO(reason=reason, domain=_DOMAIN, metadata=metadata)]
    names = ["ErrorInfo"]
    if violations:
        fields = [{"field": name, "description": text} for name, text in violations.items()]
        details.append(_BAD_REQUEST(field_violations=fields))
        names.append("BadRequest")
    packed = [
        {"type_url": f"type.googleapis.com/google.rpc.{name}", "value": one.SerializeToString()}
        for name, one in zip(names, details, strict=True)
    ]
    status = _STATUS(code=code, message=message, details=packed)
    return _DETAILS_KEY, status.SerializeToString()


def _read_details(serialised: object) -> _Details:
    """The details, as far as they can be read: a broken trailer must not hide the status."""
    details = _Details()
    if not isinstance(serialised, bytes):
        return details
    try:
        status = _STATUS.FromString(serialised)
        for detail in status.details:
            _read_detail(detail, details)
    except DecodeError:
        pass
    return details


def _read_detail(detail: Any, details: _Details) -> None:
    kind = detail.type_url.rpartition("/")[2]
    if kind == "google.rpc.ErrorInfo":
        info = _ERROR_INFO.FromString(detail.value)
        if info.domain == _DOMAIN:
            details.reason = info.reason
            details.metadata = dict(info.metadata)
    elif kind == "google.rpc.BadRequest":
        for violation in _BAD_REQUEST.FromString(detail.value).field_violations:
            details.violations.append(errors.FieldViolation(violation.field, violation.description))


_STATUS_BY_NUMBER: Final[Mapping[int, grpc.StatusCode]] = {
    status.value[0]: status for status in grpc.StatusCode
}

_FILE: Final = """
    name: "keyfence/wire/status.proto"
    package: "keyfence.wire"
    syntax: "proto3"
    message_type {
      name: "Status"
      field { name: "code" number: 1 type: TYPE_INT32 }
      field { name: "message" number: 2 type: TYPE_STRING }
      field { name: "details" number: 3 label: LABEL_REPEATED type_name: "Detail" }
    }
    message_type {
      name: "Detail"
      field { name: "type_url" number: 1 type: TYPE_STRING }
      field { name: "value" number: 2 type: TYPE_BYTES }
    }
    message_type {
      name: "ErrorInfo"
      field { name: "reason" number: 1 type: TYPE_STRING }
      field { name: "domain" number: 2 type: TYPE_STRING }
      field { name: "metadata" number: 3 label: LABEL_REPEATED type_name: "MetadataEntry" }
      nested_type {
        name: "MetadataEntry"
        field { name: "key" number: 1 type: TYPE_STRING }
        field { name: "value" number: 2 type: TYPE_STRING }
        options { map_entry: true }
      }
    }
    message_type {
      name: "BadRequest"
      field { name: "field_violations" number: 1 label: LABEL_REPEATED type_name: "Violation" }
    }
    message_type {
      name: "Violation"
      field { name: "field" number: 1 type: TYPE_STRING }
      field { name: "description" number: 2 type: TYPE_STRING }
    }
"""
"""A file descriptor, as the text of protobuf."""


def _message_classes() -> tuple[Any, Any, Any]:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(_FILE, descriptor_pb2.FileDescriptorProto()))
    status, error_info, bad_request = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"keyfence.wire.{name}"))
        for name in ("Status", "ErrorInfo", "BadRequest")
    )
    return status, error_info, bad_request


_STATUS, _ERROR_INFO, _BAD_REQUEST = _message_classes()
