"""Files of keys that other programs have made: each line read, or refused with a reason.

JSON Lines have one object a line; CSV has a line of names first, and lists in a field are
separated by blanks. A line is never shown: it may hold a key.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import typer

from keyfence_server.cli.times import point_in_time, rate

if TYPE_CHECKING:
    from keyfence import Client
    from keyfence.results import KeyToImport

BATCH: Final = 500
"""Keys in a call: the most that a server takes."""

_LONGEST_LINE: Final = 64 * 1024
_DJANGO: Final = "sha512$$"
"""How djangorestframework-api-key marks its hashes."""
_TEXTS: Final = ("account_id", "display_name", "preset", "key_type", "environment")
_LISTS: Final = ("scopes", "allowed_addresses")
_SECRETS: Final = ("api_key", "sha256", "sha512", "hashed_key")
_FIELDS: Final = frozenset({*_TEXTS, *_LISTS, *_SECRETS, "expire_time", "labels", "rate_limit"})


class Form(StrEnum):
    """How a file of keys is written."""

    JSONL = "jsonl"
    CSV = "csv"


class _Refused(Exception):
    """A line that cannot be read."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file.

    Attributes:
        number: from 1 on.
        key: the key that it says.
        problem: why it says none.
    """

    number: int
    key: KeyToImport | None
    problem: str = ""


@dataclass(slots=True)
class Sums:
    """What has come of the lines so far."""

    imported: int = 0
    present: int = 0
    refused: int = 0
    done: int = 0


def read_lines(lines: Iterable[bytes], form: Form) -> Iterator[Line]:
    """The lines of a file. Empty ones are left out."""
    read = _read_csv(lines) if form is Form.CSV else _read_json(lines)
    for number, fields in read:
        try:
            if isinstance(fields, str):
                raise _Refused(fields)
            yield Line(number, _key(fields))
        except _Refused as refused:
            yield Line(number, None, str(refused))


def import_lines(
    client: Client,
    keyspace: str,
    lines: Iterable[Line],
    *,
    dry_run: bool,
    refuse: Callable[[int, str], None],
    progress: Callable[[Sums], None],
) -> Sums:
    """Imports the keys of the lines, so many at a time.

    Args:
        refuse: is told the number of each line that was not imported, and why.
        progress: is told how far it has come, after each call.
    """
    sums = Sums()
    every = iter(lines)
    while batch := list(itertools.islice(every, BATCH)):
        keys = [(line.number, line.key) for line in batch if line.key is not None]
        for line in batch:
            if line.key is None:
                refuse(line.number, line.problem)
                sums.refused += 1
        if keys:
            imported = client.import_keys(keyspace, [key for _, key in keys], validate_only=dry_run)
            sums.imported += imported.imported_count
            sums.present += imported.present_count
            sums.refused += len(imported.refused)
            for one in imported.refused:
                refuse(keys[one.index][0], f"{one.reason}: {one.message}")
        sums.done = batch[-1].number
        progress(sums)
    return sums


def _read_json(lines: Iterable[bytes]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if len(line) > _LONGEST_LINE:
            yield number, f"the line is longer than {_LONGEST_LINE} bytes"
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            yield number, "the line is not JSON"
            continue
        yield number, fields if isinstance(fields, dict) else "the line is not a JSON object"


def _read_csv(lines: Iterable[bytes]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    text = (line.decode("utf-8", "replace") for line in lines)
    rows = csv.DictReader(text, restkey="", strict=True)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error:
            yield rows.line_num, "the line is not CSV"
            continue
        if "" in row:
            yield rows.line_num, "the line has more fields than the first line has names"
            continue
        fields: dict[str, Any] = {name: value for name, value in row.items() if value}
        for name in _LISTS:
            if name in fields:
                fields[name] = fields[name].split()
        if "labels" in fields:
            pairs = (pair.partition("=") for pair in fields["labels"].split())
            fields["labels"] = {name: value for name, _, value in pairs}
        yield rows.line_num, fields


def _key(fields: Mapping[str, Any]) -> KeyToImport:
    from keyfence.results import KeyToImport, RateLimit

    for name in fields:
        if name not in _FIELDS:
            raise _Refused(
                f'there is no field "{name[:64]}"; there are {", ".join(sorted(_FIELDS))}'
            )
    given: dict[str, Any] = {name: _text(fields, name) for name in _TEXTS if name in fields}
    given.setdefault("account_id", "")
    given |= {name: _texts(fields, name) for name in _LISTS if name in fields}
    given |= _secret(fields)
    if "labels" in fields:
        labels = fields["labels"]
        if not isinstance(labels, dict) or not all(isinstance(one, str) for one in labels.values()):
            raise _Refused("labels: an object of texts is needed")
        given["labels"] = labels
    try:
        if fields.get("expire_time"):
            given["expire_time"] = point_in_time(_text(fields, "expire_time"))
        if fields.get("rate_limit"):
            limit = rate(_text(fields, "rate_limit"))
            given["rate_limit"] = RateLimit(requests=limit.requests, window=limit.window)
    except typer.BadParameter as wrong:
        raise _Refused(wrong.message) from None
    return KeyToImport(**given)


def _secret(fields: Mapping[str, Any]) -> dict[str, Any]:
    names = [name for name in _SECRETS if fields.get(name)]
    if len(names) != 1:
        raise _Refused(f"one of {', '.join(_SECRETS)} is needed")
    name = names[0]
    text = _text(fields, name)
    if name == "api_key":
        return {name: text}
    if name == "hashed_key":
        if not text.startswith(_DJANGO):
            raise _Refused(
                f'hashed_key: only hashes that begin with "{_DJANGO}" can be imported; a key that '
                "is kept under a slow hash must be replaced"
            )
        name, text = "sha512", text.removeprefix(_DJANGO)
    try:
        return {name: bytes.fromhex(text)}
    except ValueError:
        raise _Refused(f"{name}: hexadecimal digits are needed") from None


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise _Refused(f"{name}: a text is needed")
    return value


def _texts(fields: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = fields[name]
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise _Refused(f"{name}: a list of texts is needed")
    return tuple(values)
