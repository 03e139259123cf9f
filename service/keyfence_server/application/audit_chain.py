"""The hash chain of the audit events: each event's hash covers the hash of the event before it.

An event's hash is SHA-256 over the hash of the event before it (32 zero bytes before the
first) and the event itself, written in one way only: a JSON object with its names in
order, without blanks, in ASCII; what is empty is left out; times are in UTC, in ISO 8601
with microseconds. So an event that is edited, removed, added or moved changes the hash of every
later event, and the last hash. A copy of an earlier hash that is kept elsewhere shows the change.

What is left out where it is empty lets later versions add fields without making the
hashes of old events wrong.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import UTC
from typing import Final

from keyfence_server.application.ports import AuditEvent, ChainEnd, RecordedEvent

BEFORE_THE_FIRST: Final = ChainEnd(0, bytes(32))


def chained(
    end: ChainEnd, events: Iterable[tuple[int | None, AuditEvent]]
) -> Iterator[RecordedEvent]:
    """The events with their places behind the end of a chain.

    Args:
        events: each with the revision that it tells of; None for an event that is no mutation.
    """
    sequence, digest = end.count, end.hash
    for revision, event in events:
        sequence += 1
        digest = hash_of(digest, sequence, revision, event)
        yield RecordedEvent(sequence=sequence, revision=revision, event=event, hash=digest)


def hash_of(previous: bytes, sequence: int, revision: int | None, event: AuditEvent) -> bytes:
    """The hash of an event at a place in the chain."""
    text = text_of(sequence, revision, event)
    return hashlib.sha256(previous + text.encode("ascii")).digest()


def text_of(sequence: int, revision: int | None, event: AuditEvent) -> str:
    """The text of an event at a place in the chain, as its hash covers it."""
    fields = {
        "sequence": sequence,
        "revision": revision,
        "event_id": event.event_id,
        "time": event.time.astimezone(UTC).isoformat(timespec="microseconds"),
        "action": event.action,
        "actor_key_id": event.actor_key_id,
        "keyspace": event.keyspace,
        "account_id": event.account_id,
        "subject": event.subject,
        "request_id": event.request_id,
        "details": event.details,
    }
    present = {name: value for name, value in fields.items() if value not in (None, "", {})}
    return json.dumps(present, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def follow(end: ChainEnd, events: Iterable[RecordedEvent]) -> tuple[ChainEnd, str]:
    """Goes along the chain from a place in it.

    Returns:
        How far the chain holds, and what is wrong with the event behind that, for people; empty
        for nothing.
    """
    for recorded in events:
        expected = end.count + 1
        if recorded.sequence != expected:
            return end, f"events {expected} to {recorded.sequence - 1} are missing"
        digest = hash_of(end.hash, recorded.sequence, recorded.revision, recorded.event)
        if digest != recorded.hash:
            return end, f"event {expected} was changed or moved after it was written"
        end = ChainEnd(expected, digest)
    return end, ""
