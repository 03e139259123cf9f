"""What can go wrong between a program and Keyfence.

The tree:

    KeyfenceError
    ├── ConfigurationError          the client was made or used wrongly; nothing was sent
    ├── ClientClosed                the client is closed, or belongs to another process
    └── CallFailed                  the call was sent, or should have been
        ├── InvalidRequest          INVALID_ARGUMENT: `violations` names the fields
        │   ├── UnknownScope        a scope that the keyspace does not register
        │   └── InvalidKeyspace     a declaration that contradicts itself
        ├── Unauthenticated         UNAUTHENTICATED: the token is missing or not accepted
        ├── PermissionDenied        PERMISSION_DENIED: the token is good and may not do this
        ├── NotFound                NOT_FOUND
        ├── AlreadyExists           ALREADY_EXISTS
        │   └── RequestAlreadyDone  the key was made by an earlier attempt
        ├── FailedPrecondition      FAILED_PRECONDITION: the record's state forbids it
        ├── Aborted                 ABORTED
        │   └── RevisionChanged     the record has changed since it was read
        ├── ResourceExhausted       RESOURCE_EXHAUSTED: a limit of the server
        ├── Unavailable             UNAVAILABLE: no server could answer; try again
        ├── DeadlineExceeded        DEADLINE_EXCEEDED: no answer in time
        ├── Unimplemented           UNIMPLEMENTED: the server does not know the call
        └── InternalError           INTERNAL and every other status

A key that does not pass a check is not an error: it is a result that is not allowed.

No error contains a secret: the token and the keys of the call are redacted in the server's
message. This module must not know of channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import ClassVar


class KeyfenceError(Exception):
    """The base of all errors that this library raises.

    Attributes:
        message: what was wrong, for a developer to read. Never a secret.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConfigurationError(KeyfenceError):
    """The client was configured or used wrongly. Nothing was sent."""


class ClientClosed(KeyfenceError):
    """The client was closed, or was made in another process or event loop."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """What is wrong with one field of a request.

    Attributes:
        field: the path from the request's root, for example "scopes[0]".
        description: what is wrong and what to do about it.
    """

    field: str
    description: str


class CallFailed(KeyfenceError):
    """A call failed.

    Attributes:
        status: the gRPC status code's name, for example "NOT_FOUND".
        reason: the name of a `keyfence.v1.ErrorReason` without its prefix, for example
            "KEY_NOT_FOUND". Empty: the failure did not come from Keyfence itself.
        metadata: names and values that belong to the reason.
        violations: the fields at fault, if any were named.
        request_id: finds the call in the server's log. Empty: not known.
    """

    default_status: ClassVar[str] = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        status: str | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.status = self.default_status if status is None else status
        self.reason = reason
        self.metadata: Mapping[str, str] = MappingProxyType(dict(metadata or {}))
        self.violations = tuple(violations)
        self.request_id = request_id

    def __str__(self) -> str:
        label = self.reason or self.status
        if self.request_id:
            label = f"{label}, request {self.request_id}"
        return f"{self.message} [{label}]"

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process pools; keyword-only arguments need help to be pickled.
        rebuild = partial(
            type(self),
            self.message,
            status=self.status,
            reason=self.reason,
            metadata=dict(self.metadata),
            violations=self.violations,
            request_id=self.request_id,
        )
        return rebuild, ()


class InvalidRequest(CallFailed):
    """Fields of the request are wrong. Repeating the request does not help."""

    default_status = "INVALID_ARGUMENT"


class UnknownScope(InvalidRequest):
    """The keyspace does not register the scope. In a check, this is a bug of the calling
    program."""

    @property
    def scope(self) -> str:
        """The scope that is not registered."""
        return self.metadata.get("scope", "")

    @property
    def nearest(self) -> str | None:
        """The registered scope with the most similar name, if there is one."""
        return self.metadata.get("nearest")


class InvalidKeyspace(InvalidRequest):
    """The declaration of a keyspace contradicts itself. `violations` says where."""


class Unauthenticated(CallFailed):
    """The token is missing, or the server does not accept it. It does not say why."""

    default_status = "UNAUTHENTICATED"


class PermissionDenied(CallFailed):
    """The token is valid, but does not allow this."""

    default_status = "PERMISSION_DENIED"

    @property
    def required_scope(self) -> str | None:
        """The scope that the token lacks, if that was the reason."""
        return self.metadata.get("required_scope")


class NotFound(CallFailed):
    """The thing does not exist, or the token may not know of it. The error is the same for both."""

    default_status = "NOT_FOUND"


class AlreadyExists(CallFailed):
    """The thing that was to be created exists already."""

    default_status = "ALREADY_EXISTS"


class RequestAlreadyDone(AlreadyExists):
    """An earlier attempt with the same `request_id` made the key.

    Its plaintext was in an answer that did not arrive, and cannot be had again.
    Rotate the key `key_id` for a new plaintext, or revoke it.
    """

    @property
    def key_id(self) -> str:
        """The key that the earlier attempt made."""
        return self.metadata.get("key_id", "")


class FailedPrecondition(CallFailed):
    """The state of the record does not allow this, for example because it is revoked."""

    default_status = "FAILED_PRECONDITION"


class Aborted(CallFailed):
    """Another change was made at the same time."""

    default_status = "ABORTED"


class RevisionChanged(Aborted):
    """The record has changed since `if_revision`. Read it again and repeat the change."""


class ResourceExhausted(CallFailed):
    """A limit of the server was reached. Try again later, or with a smaller request."""

    default_status = "RESOURCE_EXHAUSTED"


class Unavailable(CallFailed):
    """No server could answer, after retries where they are safe. This is not a denial.

    For a call that changes something and is not retried, the change may or may not
    have been made.
    """

    default_status = "UNAVAILABLE"


class DeadlineExceeded(CallFailed):
    """No answer came in time. This is not a denial; a change may have been made."""

    default_status = "DEADLINE_EXCEEDED"


class Unimplemented(CallFailed):
    """The server does not know the call: it is older than this library, or not Keyfence."""

    default_status = "UNIMPLEMENTED"


class InternalError(CallFailed):
    """A fault of the server or of a proxy. `request_id` finds it in the server's log."""

    default_status = "INTERNAL"
