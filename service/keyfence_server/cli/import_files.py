"""Files of keys that other programs have made: each line read, or refused with a reason.

JSON Lines have one object a line; CSV has a line of names first, and lists in a field are
separated by blanks. What stands in a line is never shown: it may be a key, also where something
else should be.
"""

from __future__ import annotations

import base64
import binascii
import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import IO, TYPE_CHECKING, Any, Final

import typer

from keyfence_server.cli.import_sources import Fields, Source, WrongLine, fields_from
from keyfence_server.cli.option_values import is_text, point_in_time, rate
from keyfence_server.domain.redaction import looks_like_a_key

if TYPE_CHECKING:
    from keyfence.results import KeyToImport

_LONGEST_LINE: Final = 64 * 1024
_FAST: Final = "sha512$$"
"""How djangorestframework-api-key marks its hashes from version 3 on."""
_TEXTS: Final = ("account_id", "display_name", "preset", "key_type", "environment")
_LISTS: Final = ("scopes", "allowed_addresses")
_DIGESTS: Final[Mapping[str, int]] = {"sha256": 32, "sha512": 64, "hmac_sha256": 32}
_SECRETS: Final = ("api_key", *_DIGESTS, "password_hash", "hashed_key")
_FIELDS: Final = frozenset(
    {*_TEXTS, *_LISTS, *_SECRETS, "prefix", "expire_time", "labels", "rate_limit"}
)


class Form(StrEnum):
    """How a file of keys is written."""

    JSONL = "jsonl"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file.

    Attributes:
        number: from 1 on.
        key: the key that it says.
        problem: why it says none.
        size: its bytes.
    """

    number: int
    key: KeyToImport | None
    problem: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """How the lines are to be read.

    Attributes:
        names: by a name in the file, the name that is meant.
        absent: by name, what a line has that does not have it.
    """

    form: Form = Form.JSONL
    source: Source = Source.KEYFENCE
    names: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)


def read_lines(file: IO[bytes], layout: Layout) -> Iterator[Line]:
    """The lines of a file. Empty ones are left out."""
    names: list[str] | None = None
    for number, line in enumerate(_bounded(file), start=1):
        try:
            if len(line) > _LONGEST_LINE:
                raise WrongLine(f"the line is longer than {_LONGEST_LINE} bytes")
            content = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not content.strip():
                continue
            if layout.form is Form.JSONL:
                given = _object(content)
            elif names is None:
                names = _row(content)
                if len(set(names)) != len(names):
                    raise WrongLine("the first line has a name twice")
                continue
            else:
                given = _record(names, content)
            fields = fields_from(
                layout.source, {layout.names.get(name, name): given[name] for name in given}
            )
            fields |= {name: it for name, it in layout.absent.items() if not fields.get(name)}
            yield Line(number, _key(fields), size=len(content))
        except WrongLine as wrong:
            yield Line(number, None, str(wrong))
            if layout.form is Form.CSV and names is None:
                # Without names no line means anything.
                return


def _bounded(file: IO[bytes]) -> Iterator[bytes]:
    """The lines. Of one that is too long only the beginning is in memory."""
    while line := file.readline(_LONGEST_LINE + 1):
        yield line
        if len(line) > _LONGEST_LINE:
            while line and not line.endswith(b"\n"):
                line = file.readline(_LONGEST_LINE)


def _decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise WrongLine("the line is not UTF-8") from None


def _object(line: bytes) -> Fields:
    text = _decoded(line)
    try:
        fields: object = _JSON.decode(text)
    except (ValueError, RecursionError):
        raise WrongLine("the line is not JSON") from None
    if not isinstance(fields, dict):
        raise WrongLine("the line is not a JSON object")
    return fields


def _without_repetition(pairs: list[tuple[str, Any]]) -> Fields:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise WrongLine("the line has a name twice")
    return fields


_JSON: Final = json.JSONDecoder(object_pairs_hook=_without_repetition)


def _row(line: bytes) -> list[str]:
    """A record is one line: a quote that is not closed spoils no other record."""
    text = _decoded(line)
    try:
        [row] = csv.reader([text], strict=True)
    except (ValueError, csv.Error):
        raise WrongLine("the line is not CSV") from None
    return row


def _record(names: list[str], line: bytes) -> Fields:
    row = _row(line)
    if len(row) > len(names):
        raise WrongLine("the line has more fields than the first line has names")
    return {name: _Cell(value) for name, value in zip(names, row, strict=False) if value}


class _Cell(str):
    """A text of CSV, which stands for a list or an object where one is needed."""

    __slots__ = ()


def _key(fields: Fields) -> KeyToImport:
    from keyfence.results import KeyToImport, RateLimit

    for name in fields:
        if name not in _FIELDS:
            # Where a CSV file has no line of names, its first keys stand there.
            shown = "of another name" if looks_like_a_key(name) else f'"{name[:32]}"'
            raise WrongLine(f"there is no field {shown}; there are {', '.join(sorted(_FIELDS))}")
    given: dict[str, Any] = {name: _text(fields, name) for name in _TEXTS if name in fields}
    given.setdefault("account_id", "")
    given |= {name: _texts(fields, name) for name in _LISTS if name in fields}
    given |= _secret(fields)
    if "labels" in fields:
        given["labels"] = _labels(fields["labels"])
    if fields.get("expire_time"):
        given["expire_time"] = _time(_text(fields, "expire_time"))
    if fields.get("rate_limit"):
        try:
            limit = rate(_text(fields, "rate_limit"))
        except typer.BadParameter:
            raise WrongLine("rate_limit: write a rate like 60/minute or 100/10s") from None
        given["rate_limit"] = RateLimit(requests=limit.requests, window=limit.window)
    return KeyToImport(**given)


def _secret(fields: Fields) -> dict[str, Any]:
    names = [name for name in _SECRETS if fields.get(name)]
    if len(names) != 1:
        raise WrongLine(f"one of {', '.join(_SECRETS)} is needed")
    name = names[0]
    text = _text(fields, name)
    if name == "api_key":
        return {name: text}
    if name == "hashed_key":
        name = "sha512" if text.startswith(_FAST) else "password_hash"
        text = text.removeprefix(_FAST)
    if name == "password_hash":
        return {name: text, "prefix": _text(fields, "prefix") if "prefix" in fields else ""}
    return {name: _digest(name, text)}


def _digest(name: str, text: str) -> bytes:
    size = _DIGESTS[name]
    try:
        value = (
            bytes.fromhex(text) if len(text) == 2 * size else base64.b64decode(text, validate=True)
        )
    except (ValueError, binascii.Error):
        value = b""
    if len(value) != size:
        raise WrongLine(f"{name}: {size} bytes in hexadecimal digits or base64 are needed")
    return value


def _time(text: str) -> datetime:
    try:
        return point_in_time(text)
    except (typer.BadParameter, OverflowError):
        raise WrongLine(
            "expire_time: write a time like 2030-01-31 or 2030-01-31T12:00:00Z"
        ) from None


def _labels(value: Any) -> Mapping[str, str]:
    if isinstance(value, _Cell):
        value = {name: text for name, _, text in (pair.partition("=") for pair in value.split())}
    if not isinstance(value, dict) or not all(map(is_text, (*value, *value.values()))):
        raise WrongLine("labels: an object whose values are strings is needed")
    return value


def _text(fields: Fields, name: str) -> str:
    value = fields[name]
    if not is_text(value):
        raise WrongLine(f"{name}: a text is needed")
    return str(value)


def _texts(fields: Fields, name: str) -> tuple[str, ...]:
    values = fields[name]
    if isinstance(values, _Cell):
        values = values.split()
    if not isinstance(values, list) or not all(map(is_text, values)):
        raise WrongLine(f"{name}: a list of strings is needed")
    return tuple(values)
