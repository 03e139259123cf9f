"""Rate limits and where they stand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from keyfence.v1 import rate_limit_pb2
from keyfence_server.convert.times import duration_from, duration_of
from keyfence_server.domain.limits import Count, Limit, Rate, RateLimitStatus, Subject

_SUBJECTS: Final[Mapping[Subject, rate_limit_pb2.RateLimitSubject.ValueType]] = {
    subject: rate_limit_pb2.RateLimitSubject.Value(f"RATE_LIMIT_SUBJECT_{subject.name}")
    for subject in Subject
}
_COUNTS: Final[Mapping[Count, rate_limit_pb2.RateLimitCount.ValueType]] = {
    count: rate_limit_pb2.RateLimitCount.Value(f"RATE_LIMIT_COUNT_{count.name}") for count in Count
}

_SUBJECTS_BY_NUMBER: Final[Mapping[int, Subject]] = {n: one for one, n in _SUBJECTS.items()}
_COUNTS_BY_NUMBER: Final[Mapping[int, Count]] = {n: one for one, n in _COUNTS.items()}


def rate_from(message: rate_limit_pb2.RateLimit, path: str) -> Rate:
    """A rate, whether it makes sense or not."""
    return Rate(message.requests, duration_from(message.window, f"{path}.window"))


def rate_of(rate: Rate) -> rate_limit_pb2.RateLimit:
    """The message for a rate."""
    return rate_limit_pb2.RateLimit(requests=rate.requests, window=duration_of(rate.window))


def status_of(status: RateLimitStatus) -> rate_limit_pb2.RateLimitStatus:
    """Where a limit stands."""
    rate = status.limit.rate
    retry_after = status.retry_after
    return rate_limit_pb2.RateLimitStatus(
        limit=rate.requests,
        remaining=status.remaining,
        reset_time=Timestamp(seconds=status.reset_at),
        retry_after=Duration(seconds=retry_after) if retry_after is not None else None,
        window=Duration(seconds=rate.seconds),
        subject=_SUBJECTS[status.limit.subject],
        count=_COUNTS[status.count],
    )


def status_from(message: rate_limit_pb2.RateLimitStatus) -> RateLimitStatus:
    """Where a limit stands, as another Keyfence says. Its name stays there."""
    rate = Rate(message.limit, timedelta(seconds=message.window.seconds))
    return RateLimitStatus(
        limit=Limit(_SUBJECTS_BY_NUMBER[message.subject], "", rate),
        remaining=message.remaining,
        reset_at=message.reset_time.seconds,
        retry_after=message.retry_after.seconds if message.HasField("retry_after") else None,
        count=_COUNTS_BY_NUMBER[message.count],
    )
