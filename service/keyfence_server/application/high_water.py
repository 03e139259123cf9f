"""Notices that the store is older than it was: a restored backup, or another database.

A restored backup makes revoked keys valid again, and nothing inside it says so. So a server
keeps the position of its store outside of the store, and compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from keyfence_server.application.ports import EventFilter, Snapshot, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a store had come.

    Attributes:
        revision: of its last mutation.
        events: how many audit events it held.
        hash: of the last of them, which covers all before it.
        time: when this was read.
    """

    revision: int
    events: int
    hash: bytes
    time: datetime


class StoreWentBack(Exception):
    """The store is older than a position that it has had, or is another store."""


async def read_position(store: Store, time: datetime) -> Position:
    """The position of a store now. Raises `StoreUnavailable`."""
    async with store.snapshot() as snapshot:
        return await _position_in(snapshot, time)


async def _position_in(snapshot: Snapshot, time: datetime) -> Position:
    end = await snapshot.end_of_events()
    return Position(revision=snapshot.revision, events=end.count, hash=end.hash, time=time)


async def require_not_older(store: Store, mark: Position, time: datetime) -> Position:
    """Returns the position of the store if it continues from the mark.

    Raises:
        StoreWentBack: the store holds fewer revisions or events, or another event at the mark.
        StoreUnavailable: the store does not answer.
    """
    async with store.snapshot() as snapshot:
        now = await _position_in(snapshot, time)
        if now.revision < mark.revision or now.events < mark.events:
            raise StoreWentBack(
                f"the database is older than it was on {mark.time:%Y-%m-%d %H:%M} UTC: it is at "
                f"revision {now.revision} and was at {mark.revision}, so a backup was restored. "
                "Keys that were revoked since then are valid again"
            )
        if not await _continues(snapshot, now, mark):
            raise StoreWentBack(
                f"the audit log differs from the one that this database had on "
                f"{mark.time:%Y-%m-%d %H:%M} UTC: a backup was restored and has changed since, or "
                "this is another database"
            )
    return now


async def _continues(snapshot: Snapshot, now: Position, mark: Position) -> bool:
    if now.events == mark.events:
        return now.hash == mark.hash
    removed = (await snapshot.audit_cut()).removed
    if mark.events <= removed.count:
        # The event was removed, and what is before the last removed one cannot be compared.
        return mark.events != removed.count or mark.hash == removed.hash
    found = await snapshot.list_events(EventFilter(), after=mark.events - 1, limit=1)
    return [(one.sequence, one.hash) for one in found] == [(mark.events, mark.hash)]
