"""Micro-batching: checks that are under way at the same time share messages.

What the batchers of both clients have in common. It knows no channel, no thread and no event loop.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from keyfence import _convert, results
from keyfence.errors import DeadlineExceeded, KeyfenceError, ResourceExhausted
from keyfence.v1 import authorization_service_pb2 as authorization

MAX_BATCH_CHECKS: Final = 256
"""The most checks that a server takes in one message."""

# A batch may have 512 KiB. A very long presented key must not fail the other checks of its message,
# so a check that is larger than this is sent alone.
_MOST_BYTES_OF_A_CHECK: Final = 1_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """Asks for checks that are under way at the same time to share messages.

    Attributes:
        max_checks: how many checks one message carries at most: 1 to 256.
    """

    max_checks: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.max_checks <= MAX_BATCH_CHECKS:
            raise ValueError(f"max_checks must be 1 to {MAX_BATCH_CHECKS}, not {self.max_checks}")


@dataclass(frozen=True, slots=True, eq=False)
class WaitingCheck:
    """A check that waits for its answer.

    Attributes:
        deadline: by `time.monotonic`. The caller stops waiting then.
        answer: a future of `asyncio`, or of `concurrent.futures`.
    """

    check: results.ScopeCheck
    request: authorization.CheckScopeRequest
    deadline: float
    answer: Any


def may_share(request: authorization.CheckScopeRequest) -> bool:
    """Whether the check is small enough to share a message."""
    return request.ByteSize() <= _MOST_BYTES_OF_A_CHECK


def request_of(batch: Sequence[WaitingCheck]) -> authorization.BatchCheckScopeRequest:
    """The message that carries the checks."""
    return authorization.BatchCheckScopeRequest(checks=[one.request for one in batch])


def secrets_of(batch: Sequence[WaitingCheck]) -> tuple[str, ...]:
    """What no error of the call may show."""
    return tuple(one.check.api_key for one in batch)


def answer_all(
    batch: Sequence[WaitingCheck], response: authorization.BatchCheckScopeResponse
) -> None:
    """Gives each check its answer, or its error.

    Raises:
        InternalError: the server answered another number of checks.
    """
    answers = _convert.batch_results(response, [one.check for one in batch])
    for one, answer in zip(batch, answers, strict=True):
        if one.answer.done():
            continue
        if isinstance(answer, results.FailedCheck):
            one.answer.set_exception(answer.error)
        else:
            one.answer.set_result(answer)


def fail(batch: Sequence[WaitingCheck], error: Exception) -> None:
    """Gives every check the error of the call, in a copy: each caller adds its own traceback."""
    for one in batch:
        if not one.answer.done():
            own = copy.copy(error) if isinstance(error, KeyfenceError) else error
            one.answer.set_exception(own)


def was_left_out(error: ResourceExhausted) -> bool:
    """Whether the server has not looked at the check, because the answers of its batch were too
    large. It counts against no rate limit then, and may be sent alone."""
    return error.metadata.get("limit") == "answer_bytes"


def too_late(timeout_seconds: float) -> DeadlineExceeded:
    """The error of a check whose caller has stopped waiting."""
    return DeadlineExceeded(f"no answer within {timeout_seconds:g} s")
