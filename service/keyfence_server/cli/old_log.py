"""Reads the audit log of a database that is no longer in use.

The source can be the SQLite file, the URL of a PostgreSQL database, the output of
`keyfence audit list --limit 0 -o json`, or of `keyfence audit export`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import Failure, failing
from keyfence_server.cli.offline import store_failures
from keyfence_server.cli.standard_input import STANDARD_INPUT, standard_input

if TYPE_CHECKING:
    from keyfence_server.application.ports import RecordedEvent
    from keyfence_server.domain.keys import Key

_SQLITE: Final = b"SQLite format 3\0"
_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OldEvent:
    """An event, and its place in the log."""

    sequence: int
    hash: bytes
    time: datetime
    action: str
    keyspace: str
    account_id: str
    subject: str
    actor_id: str
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OldLog:
    """The contents of the old log.

    Attributes:
        events: the events by their sequence.
        keys: the last records of updated keys, by key id; empty if the source has only events.
    """

    events: Mapping[int, OldEvent]
    keys: Mapping[str, Key] = field(default_factory=dict)


def read_old_log(source: str) -> OldLog:
    """Reads a database or events that were listed as JSON, "-" for standard input. Raises `Failure`
    if it is neither, or cannot be read."""
    if "://" in source:
        return asyncio.run(_of_database(source))
    with failing(ExitCode.WRONG_INPUT, OSError, about=source):
        content = standard_input().read() if source == STANDARD_INPUT else Path(source).read_bytes()
    if content.startswith(_SQLITE):
        from keyfence_server.adapters.sql.urls import url_of_file

        return asyncio.run(_of_database(url_of_file(Path(source))))
    try:
        events = [_of_json(event) for event in _listed(content.decode())]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Failure(
            f"{source}: is neither a SQLite database nor what `keyfence audit list --limit 0 -o "
            "json` or `keyfence audit export` writes",
            ExitCode.WRONG_INPUT,
        ) from None
    return OldLog({event.sequence: event for event in events})


def _listed(text: str) -> list[dict[str, Any]]:
    """Reads the events of a listing, or one event on each line, as `audit list --follow` and
    `audit export` write them."""
    try:
        found = json.loads(text)
    except ValueError:
        return [json.loads(line) for line in text.splitlines()]
    events: list[dict[str, Any]] = found.get("events", [found])
    return events


def _of_json(event: dict[str, Any]) -> OldEvent:
    if "previous_hash" in event:
        # An export leaves out what is empty.
        absent = dict.fromkeys(("keyspace", "account_id", "subject", "actor_key_id"), "")
        exported = {**absent, "details": {}, **event["event"], "hash": event["hash"]}
        event = {**exported, "actor_id": exported["actor_key_id"]}
    return OldEvent(
        sequence=int(event["sequence"]),
        hash=bytes.fromhex(event["hash"]),
        time=datetime.fromisoformat(event["time"]),
        action=event["action"],
        keyspace=event["keyspace"],
        account_id=event["account_id"],
        subject=event["subject"],
        actor_id=event["actor_id"],
        details=dict(event["details"]),
    )


async def _of_database(url: str) -> OldLog:
    from keyfence_server.adapters.sql import InvalidDatabaseUrl, open_store
    from keyfence_server.application.ports import EventFilter
    from keyfence_server.domain.keys import KeyId

    events: dict[int, OldEvent] = {}
    keys: dict[str, Key] = {}
    with failing(ExitCode.WRONG_INPUT, InvalidDatabaseUrl), store_failures("the old database"):
        store = await open_store(url)
        try:
            async with store.snapshot() as snapshot:
                last = 0
                while page := await snapshot.list_events(EventFilter(), after=last, limit=_PAGE):
                    last = page[-1].sequence
                    events.update({one.sequence: _of_record(one) for one in page})
                for subject in {e.subject for e in events.values() if e.action == "key.update"}:
                    if (lineage := await snapshot.find_lineage(KeyId(subject))) is not None:
                        keys[subject] = lineage[0]
        finally:
            await store.close()
    return OldLog(events, keys)


def _of_record(record: RecordedEvent) -> OldEvent:
    event = record.event
    return OldEvent(
        sequence=record.sequence,
        hash=record.hash,
        time=event.time,
        action=event.action,
        keyspace=event.keyspace,
        account_id=event.account_id or "",
        subject=event.subject,
        actor_id=event.actor_key_id or "",
        details=event.details,
    )
