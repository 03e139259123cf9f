"""The error that a fake answers with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import grpc


class Failure(Exception):
    """An error that the fake answers with.

    Args:
        status: of gRPC.
        reason: of `ErrorReason`, without its prefix. Empty: no details are sent.
        metadata: of the reason.
        violations: what is wrong, by the field.
    """

    def __init__(
        self,
        status: grpc.StatusCode,
        message: str = "a planned failure",
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status: Final = status
        self.message: Final = message
        self.reason: Final = reason
        self.metadata: Final = dict(metadata or {})
        self.violations: Final = dict(violations or {})


def invalid(name: str, message: str) -> Failure:
    """The error of a field."""
    return Failure(
        grpc.StatusCode.INVALID_ARGUMENT,
        f"{name}: {message}",
        "INVALID_FIELD",
        violations={name: message},
    )
