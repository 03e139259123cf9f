"""Writes the chain of audit events.

A mutation appends its events in its own transaction, and the end of the chain is the last lock that
it takes, so a deadlock is impossible. Events that tell of no revision, such as denied attempts, are
written without the head's lock, so they neither wait for mutations nor take a revision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from sqlalchemy import bindparam, select, update

from keyfence_server.adapters.sql.conversation import DirectConversation
from keyfence_server.adapters.sql.errors import StoreFault
from keyfence_server.adapters.sql.ready import ReadyStatement, insertion_into
from keyfence_server.adapters.sql.records import event_to_row
from keyfence_server.adapters.sql.schema import audit_events, audit_head
from keyfence_server.application.audit_chain import chained
from keyfence_server.application.ports import AuditEvent, ChainEnd, RecordedEvent

_IDS_AT_ONCE: Final = 1_000
"""Ids in a statement: both databases stop at about 32,000 parameters."""
_EVENTS_AT_ONCE: Final = 100
"""Audit events that are hashed and written before other calls have their turn."""

_END_OF_CHAIN: Final = ReadyStatement(
    select(audit_head.c.event_count, audit_head.c.hash).with_for_update()
)
INSERT_EVENTS: Final = insertion_into(audit_events)
MOVE_END: Final = ReadyStatement(
    update(audit_head).where(
        audit_head.c.event_count == bindparam("known_count"),
        audit_head.c.hash == bindparam("known_hash"),
    ),
    sets=["event_count", "hash"],
)


async def append_to_chain(
    conversation: DirectConversation,
    events: Sequence[tuple[int | None, AuditEvent]],
    known: ChainEnd | None = None,
) -> None:
    """Adds events to the chain, each with the revision that it tells of, in a transaction that
    the caller commits.

    Args:
        known: where the chain was seen to end. If it does not end there any more, its end is read.
    """
    if not events or (known is not None and await _append(conversation, events, known)):
        return
    heads = await conversation.fetch(_END_OF_CHAIN)
    if not heads or not await _append(conversation, events, ChainEnd(*heads[0])):
        raise StoreFault("the table audit_head has no row")


async def _append(
    conversation: DirectConversation, events: Sequence[tuple[int | None, AuditEvent]], end: ChainEnd
) -> bool:
    """Adds events if the chain ends here. To move the end locks it."""
    known_end = end
    recorded: list[RecordedEvent] = []
    for start in range(0, len(events), _EVENTS_AT_ONCE):
        if start:
            await asyncio.sleep(0)
        recorded += chained(end, events[start : start + _EVENTS_AT_ONCE])
        end = ChainEnd(recorded[-1].sequence, recorded[-1].hash)
    if await conversation.write(MOVE_END, move_from(known_end, recorded)) != 1:
        return False
    for start in range(0, len(recorded), _EVENTS_AT_ONCE):
        if start:
            await asyncio.sleep(0)
        some = recorded[start : start + _EVENTS_AT_ONCE]
        await conversation.write_each(INSERT_EVENTS, [event_to_row(one) for one in some])
    return True


def move_from(known: ChainEnd, recorded: Sequence[RecordedEvent]) -> dict[str, object]:
    """The values of `MOVE_END` that move the end of the chain from a known one behind events."""
    last = recorded[-1]
    return {
        "event_count": last.sequence,
        "hash": last.hash,
        "known_count": known.count,
        "known_hash": known.hash,
    }


async def append_new_events(conversation: DirectConversation, events: Sequence[AuditEvent]) -> None:
    """Adds events that tell of no revision, in a transaction that the caller commits.

    Those that are in the chain already, because an earlier try was carried out after all, are
    not added again.
    """
    # The end of the chain is locked first, so no other writer adds them meanwhile.
    await conversation.fetch(_END_OF_CHAIN)
    present: set[str] = set()
    for start in range(0, len(events), _IDS_AT_ONCE):
        ids = [event.event_id for event in events[start : start + _IDS_AT_ONCE]]
        query = select(audit_events.c.event_id).where(audit_events.c.event_id.in_(ids))
        present |= set((await conversation.execute(query)).scalars())
    missing = [(None, event) for event in events if event.event_id not in present]
    await append_to_chain(conversation, missing)
