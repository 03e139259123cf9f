"""Times and durations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, overload

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from keyfence_server.domain.errors import InvalidInput

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_A_DAY: Final = 86_400


def time_from(message: Timestamp, path: str) -> datetime:
    """The time, aware, in UTC, with what lies below a microsecond cut off."""
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidInput.field(path, "is not a time between the years 1 and 9999") from None


def duration_from(message: Duration, path: str) -> timedelta:
    """The duration, with what lies below a microsecond cut off."""
    try:
        return message.ToTimedelta()
    except (ValueError, OverflowError):
        raise InvalidInput.field(path, "is not a duration of at most 10000 years") from None


@overload
def timestamp_of(time: datetime) -> Timestamp: ...
@overload
def timestamp_of(time: datetime | None) -> Timestamp | None: ...
def timestamp_of(time: datetime | None) -> Timestamp | None:
    """The message for an aware time; None for none."""
    if time is None:
        return None
    message = Timestamp()
    write_time(message, time)
    return message


def write_time(message: Timestamp, time: datetime) -> None:
    """Writes an aware time into a message."""
    # `Timestamp.FromDatetime` takes five times as long, and a page of keys has thousands.
    since = time - _EPOCH
    message.seconds = since.days * _SECONDS_A_DAY + since.seconds
    message.nanos = since.microseconds * 1000


def duration_of(duration: timedelta) -> Duration:
    """The message for a duration."""
    message = Duration()
    message.FromTimedelta(duration)
    return message


def duration_of_seconds(seconds: float) -> Duration:
    """The message for a length of time. Rounded down: a lease may not be longer than it was
    granted for."""
    whole, microseconds = divmod(int(min(seconds, 1e6) * 1e6), 1_000_000)
    return Duration(seconds=whole, nanos=microseconds * 1_000)
