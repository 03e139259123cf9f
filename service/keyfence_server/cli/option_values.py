"""Values of options as people type them: times, rates, ids of keys, names with values."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import typer

from keyfence_server.domain.durations import parse_duration
from keyfence_server.domain.limits import Rate, parse_rate, rate_problem

_HALF_CHARACTER: Final = re.compile("[\ud800-\udfff]")
_KEY_ID: Final = re.compile(r"key_[0-9a-z]{1,64}")


def is_text(value: object) -> bool:
    """Whether the value is text that UTF-8 can write. JSON can hold halves of characters, and
    bytes of a command line that are not UTF-8 reach Python as such."""
    return isinstance(value, str) and (value.isascii() or _HALF_CHARACTER.search(value) is None)


def duration(text: str) -> timedelta:
    """A duration like "30s", "15m", "12h" or "90d"."""
    parsed = parse_duration(text)
    if parsed is None:
        raise typer.BadParameter(f'"{text}" is not a duration; write one like 30s, 15m, 12h or 90d')
    return parsed


def point_in_time(text: str) -> datetime:
    """A time in RFC 3339 like "2030-01-31T12:00:00Z". A date alone is its start, in UTC."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        parsed = None
    if parsed is not None and len(text) == len("2030-01-31"):
        return parsed.replace(tzinfo=UTC)
    if parsed is None or parsed.utcoffset() is None:
        raise typer.BadParameter(
            f'"{text}" is not a time; write one like 2030-01-31 or 2030-01-31T12:00:00Z, '
            "with its offset from UTC"
        )
    return parsed.astimezone(UTC)


def since(text: str) -> datetime:
    """A time, or how long ago it was, like "15m"."""
    ago = parse_duration(text)
    if ago is None:
        return point_in_time(text)
    return _from_now(-ago, f'"{text}" ago is before the year 1')


def until(text: str) -> datetime:
    """The end of a span of time from now on, like "30d"."""
    return _from_now(duration(text), f'"{text}" from now is after the year 9999')


def _from_now(span: timedelta, problem: str) -> datetime:
    try:
        return datetime.now(UTC) + span
    except OverflowError:
        raise typer.BadParameter(problem) from None


def rate(text: str) -> Rate:
    """A rate like "60/minute" or "100/10s"."""
    parsed = parse_rate(text)
    problem = rate_problem(parsed) if parsed is not None else None
    if parsed is None or problem is not None:
        raise typer.BadParameter(
            problem or f'"{text}" is no rate; write one like 60/minute, 1000/hour or 100/10s'
        )
    return parsed


def expiry(expires_in: timedelta | None, expires_at: datetime | None) -> datetime | None:
    """When a key is to stop working, from the two ways to say it."""
    if expires_in is not None and expires_at is not None:
        raise typer.BadParameter("give --expires-in or --expires-at, not both")
    if expires_in is None:
        return expires_at
    return _from_now(expires_in, "--expires-in ends after the year 9999")


def is_key_id(text: str) -> bool:
    """Whether a text has the form of a key's id."""
    return _KEY_ID.fullmatch(text) is not None


def key_id(text: str) -> str:
    """A key's id. What is none may be a key, typed by mistake: it is neither sent nor shown."""
    if not is_key_id(text):
        raise typer.BadParameter(
            "this is not a key's id, which looks like key_01jd2k7v9x4m8r5t6w3y1z0abc; "
            "`keyfence keys list` shows the ids. If it is the key itself, give it on standard "
            "input: `keyfence keys find -` shows its id, `keyfence keys revoke -` revokes it"
        )
    return text


def read_pairs(
    option: str, texts: Iterable[str] | None, *, may_be_empty: bool = False
) -> dict[str, str]:
    """The values by name, as they are given on the command line. Raises `typer.BadParameter`, which
    names the option, if a text is not NAME=VALUE, or a name is given twice."""
    values: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not name or not equals or not (value or may_be_empty):
            raise typer.BadParameter("write NAME=VALUE", param_hint=option)
        if name in values:
            raise typer.BadParameter(f'"{name}" is given twice', param_hint=option)
        values[name] = value
    return values


def read_labels(texts: Iterable[str] | None) -> dict[str, str]:
    """Labels as they are given on the command line. Raises as `read_pairs`."""
    return read_pairs("--label", texts, may_be_empty=True)
