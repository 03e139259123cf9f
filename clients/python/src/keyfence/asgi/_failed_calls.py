"""Errors of Keyfence's RPCs as HTTP statuses and messages for an end user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from keyfence.errors import (
    AlreadyExists,
    CallFailed,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)

_STATUSES: Final[Mapping[type[CallFailed], int]] = {
    InvalidRequest: 400,
    Unauthenticated: 401,
    PermissionDenied: 403,
    NotFound: 404,
    AlreadyExists: 409,
    FailedPrecondition: 409,
    ResourceExhausted: 429,
    Unavailable: 503,
    DeadlineExceeded: 503,
}
CODES: Final[Mapping[int, str]] = {
    400: "invalid_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
    429: "rate_limited",
    500: "internal_error",
    503: "temporarily_unavailable",
}
MESSAGES: Final[Mapping[int, str]] = {
    403: "This credential may not do this",
    404: "There is no such thing",
    429: "Too many requests",
    500: "The request could not be checked",
    503: "The request could not be checked; try again",
}


def status_of(error: CallFailed) -> int:
    """The HTTP status that fits the error best."""
    return next((code for kind, code in _STATUSES.items() if isinstance(error, kind)), 500)


def message_of(error: CallFailed, status: int, names: Mapping[str, str]) -> str:
    """What the end user is told.

    Args:
        names: what the product calls the fields of Keyfence's requests.
    """
    if isinstance(error, InvalidRequest) and error.violations:
        return "; ".join(
            f"{names.get(one.field, one.field)}: {one.description}" for one in error.violations
        )
    return MESSAGES.get(status, error.message)
