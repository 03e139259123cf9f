"""Exports the audit log to an archive: the form of the archive, and its verification.

An archive is a sequence of lines, each a JSON object with three names:

- `event`: the event, as its hash covers it (`audit_chain`),
- `hash`: the event's hash,
- `previous_hash`: the hash of the event before.

So a part of an archive can be verified by itself, and as the continuation of another part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from keyfence_server.application.audit_chain import BEFORE_THE_FIRST
from keyfence_server.application.ports import ChainEnd

_HASH_BYTES: Final = 32
_NAMES: Final = frozenset({"event", "hash", "previous_hash"})


class ArchiveBroken(Exception):
    """An archive is not what was exported.

    Attributes:
        line: the number of the line where it shows, from 1.
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line


@dataclass(frozen=True, slots=True)
class ExportedEvent:
    """An event as the text that its hash covers."""

    text: str
    hash: bytes


def line_of(previous_hash: bytes, exported: ExportedEvent) -> str:
    """The line of an archive, without its end."""
    return (
        f'{{"hash":"{exported.hash.hex()}","previous_hash":"{previous_hash.hex()}",'
        f'"event":{exported.text}}}'
    )


def follow_archive(end: ChainEnd | None, lines: Iterable[str]) -> ChainEnd | None:
    """Goes along the lines of an archive.

    Args:
        end: the last event of the part before; None if this is the first part.

    Returns:
        The last event; `end` if there are no lines.

    Raises:
        ArchiveBroken: a line is not what was exported, or does not continue the line before.
    """
    for number, line in enumerate(lines, start=1):
        end = _following(end, number, line)
    return end


def _following(end: ChainEnd | None, number: int, line: str) -> ChainEnd:
    try:
        fields: dict[str, Any] = json.loads(line)
        if fields.keys() != _NAMES:
            raise ValueError
        sequence = fields["event"]["sequence"]
        digest, previous = (bytes.fromhex(fields[name]) for name in ("hash", "previous_hash"))
        is_event = type(sequence) is int and sequence > 0
        if not is_event or len(digest) != _HASH_BYTES or len(previous) != _HASH_BYTES:
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        problem = "is no line of `keyfence audit export`"
        raise ArchiveBroken(number, problem) from None
    if end is None:
        end = BEFORE_THE_FIRST if sequence == 1 else ChainEnd(sequence - 1, previous)
    if sequence != end.count + 1:
        raise ArchiveBroken(number, f"event {end.count + 1} was expected, and this is {sequence}")
    if previous != end.hash:
        raise ArchiveBroken(number, f"event {sequence} does not continue the event before")
    text = json.dumps(fields["event"], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    if hashlib.sha256(previous + text.encode("ascii")).digest() != digest:
        raise ArchiveBroken(number, f"event {sequence} is not as it was written")
    return ChainEnd(sequence, digest)
