"""The one place where an error becomes a gRPC status.

Every error status carries one `google.rpc.ErrorInfo` with domain "keyfence" and a reason of
`keyfence.v1.ErrorReason`; faults in fields also a `google.rpc.BadRequest`. A status stays small,
however many faults there are: it travels as metadata, and clients refuse large metadata. A message
can repeat a key that was sent in the wrong field, and clients log messages. So every text that has
the form of a key is redacted here, whatever the error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import grpc
from google.protobuf import any as protobuf_any
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from keyfence_server.application.ports import StoreUnavailable
from keyfence_server.domain.errors import DomainError, InvalidInput
from keyfence_server.domain.redaction import hide_keys

DOMAIN: Final = "keyfence"

_MAX_MESSAGE: Final = 500
_MAX_VALUE: Final = 200
_MAX_VIOLATIONS_SIZE: Final = 2_000

CODE_BY_REASON: Final[Mapping[str, grpc.StatusCode]] = {
    "CREDENTIAL_REQUIRED": grpc.StatusCode.UNAUTHENTICATED,
    "CREDENTIAL_REJECTED": grpc.StatusCode.UNAUTHENTICATED,
    "SCOPE_REQUIRED": grpc.StatusCode.PERMISSION_DENIED,
    "KEYSPACE_NOT_BOUND": grpc.StatusCode.PERMISSION_DENIED,
    "EXCEEDS_MAKER": grpc.StatusCode.PERMISSION_DENIED,
    "KEY_TYPE_MAY_NOT_MANAGE": grpc.StatusCode.PERMISSION_DENIED,
    "INVALID_FIELD": grpc.StatusCode.INVALID_ARGUMENT,
    "UNKNOWN_SCOPE": grpc.StatusCode.INVALID_ARGUMENT,
    "INVALID_KEYSPACE": grpc.StatusCode.INVALID_ARGUMENT,
    "KEY_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "KEYSPACE_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "REQUEST_ALREADY_DONE": grpc.StatusCode.ALREADY_EXISTS,
    "KEY_IS_REVOKED": grpc.StatusCode.FAILED_PRECONDITION,
    "REVISION_CHANGED": grpc.StatusCode.ABORTED,
    "STILL_IN_USE": grpc.StatusCode.FAILED_PRECONDITION,
    "LIMIT_REACHED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "STORE_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "REVISION_NOT_REACHED": grpc.StatusCode.UNAVAILABLE,
    "SHUTTING_DOWN": grpc.StatusCode.UNAVAILABLE,
    "INTERNAL": grpc.StatusCode.INTERNAL,
    "DELEGATION_TOO_DEEP": grpc.StatusCode.FAILED_PRECONDITION,
    "KEYSPACE_IS_BUILT_IN": grpc.StatusCode.FAILED_PRECONDITION,
    "METHOD_UNKNOWN": grpc.StatusCode.UNIMPLEMENTED,
    "LAST_OPERATOR": grpc.StatusCode.FAILED_PRECONDITION,
    "REGISTRATION_CLOSED": grpc.StatusCode.PERMISSION_DENIED,
    "EMAIL_TAKEN": grpc.StatusCode.ALREADY_EXISTS,
    "LOG_IN_FAILED": grpc.StatusCode.UNAUTHENTICATED,
    "ACCOUNT_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "ACCOUNT_IS_DISABLED": grpc.StatusCode.FAILED_PRECONDITION,
    "TOO_MANY_ATTEMPTS": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "SESSION_REQUIRED": grpc.StatusCode.PERMISSION_DENIED,
    "PASSWORD_REJECTED": grpc.StatusCode.PERMISSION_DENIED,
    "SESSIONS_NOT_SET_UP": grpc.StatusCode.FAILED_PRECONDITION,
    "RATE_LIMITS_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "PROTOCOL_VERSION_UNSUPPORTED": grpc.StatusCode.FAILED_PRECONDITION,
    "KEY_IS_ROTATED": grpc.StatusCode.FAILED_PRECONDITION,
    "QUOTA_REACHED": grpc.StatusCode.RESOURCE_EXHAUSTED,
}
"""The status code of every reason of `keyfence.v1.ErrorReason`, as its comments say."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a caller is told of an error.

    Attributes:
        reason: the name of an `ErrorReason` without its prefix.
        message: what was wrong and what to do, for a developer to read.
        metadata: names and values for programs.
        problems: the fields that are wrong, by their proto names, and what is wrong.
    """

    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    problems: Sequence[tuple[str, str]] = ()

    @property
    def code(self) -> grpc.StatusCode:
        """The status code that goes with the reason."""
        return CODE_BY_REASON[self.reason]

    def to_status(self) -> grpc.Status:
        """The status, ready for `abort_with_status`."""
        metadata = {name: _shortened(value, _MAX_VALUE) for name, value in self.metadata.items()}
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=metadata)
        details = [protobuf_any.pack(info)]
        if self.problems:
            details.append(protobuf_any.pack(_bad_request(self.problems)))
        return rpc_status.to_status(
            status_pb2.Status(
                code=self.code.value[0],
                message=_shortened(self.message, _MAX_MESSAGE),
                details=details,
            )
        )


def failure_of(error: DomainError | StoreUnavailable) -> Failure:
    """What a caller is told of an error that is expected to happen."""
    if isinstance(error, StoreUnavailable):
        return STORE_UNAVAILABLE
    problems = error.problems if isinstance(error, InvalidInput) else ()
    return Failure(
        error.reason,
        hide_keys(error.message),
        {name: hide_keys(value) for name, value in error.metadata.items()},
        [(hide_keys(one.where), hide_keys(one.message)) for one in problems],
    )


def internal_failure(request_id: str) -> Failure:
    """What a caller is told of a fault of ours: where to find out, and nothing more."""
    return Failure(
        "INTERNAL",
        f"an internal error occurred; the server's log has it under request id {request_id}",
        {"request_id": request_id},
    )


def limit_reached(limit: str, message: str) -> Failure:
    """What a caller is told that asked for more than the server gives."""
    return Failure("LIMIT_REACHED", message, {"limit": limit})


STORE_UNAVAILABLE: Final = Failure(
    "STORE_UNAVAILABLE", "the store cannot be reached; nothing was answered from it, try again"
)
SHUTTING_DOWN: Final = Failure(
    "SHUTTING_DOWN", "the server is shutting down; try again, on another connection"
)
UNDECODABLE: Final = Failure(
    "INVALID_FIELD", "the request is not an encoded message of the RPC's request type"
)
METHOD_UNKNOWN: Final = Failure("METHOD_UNKNOWN", "there is no such RPC")


def _bad_request(problems: Sequence[tuple[str, str]]) -> error_details_pb2.BadRequest:
    request = error_details_pb2.BadRequest()
    size = 0
    for index, (where, message) in enumerate(problems):
        path = _shortened(where, _MAX_VALUE)
        description = _shortened(message, _MAX_VALUE * 2)
        size += len((path + description).encode())
        if size > _MAX_VIOLATIONS_SIZE:
            rest = len(problems) - index
            request.field_violations.add(field="", description=f"and {rest} more")
            break
        request.field_violations.add(field=path, description=description)
    return request


def _shortened(text: str, limit: int) -> str:
    # Characters outside of ASCII grow to as many as twelve bytes in `grpc-message`.
    if len(text) <= limit and text.isascii():
        return text
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= limit:
        return text
    return encoded[: limit - 3].decode("utf-8", "ignore") + "…"
