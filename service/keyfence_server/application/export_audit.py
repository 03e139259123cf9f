"""Exports the audit log of all keyspaces, and records what is in an archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from keyfence_server.application.audit import audit_log_event
from keyfence_server.application.audit_archive import ExportedEvent
from keyfence_server.application.audit_chain import text_of
from keyfence_server.application.callers import Caller
from keyfence_server.application.pages import read_page_size
from keyfence_server.application.pauses import Pauses
from keyfence_server.application.ports import (
    ChainBroken,
    ChainEnd,
    Clock,
    EventFilter,
    RetentionStore,
    Store,
)
from keyfence_server.application.read_audit import require_the_chain
from keyfence_server.domain.errors import InvalidInput
from keyfence_server.domain.keyspaces import SYSTEM

_HASH_BYTES: Final = 32
# Making so much text takes some milliseconds.
_TEXT_AT_A_TIME: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Exported:
    """Events for an archive, without gaps.

    Attributes:
        previous: the event before the first of them.
    """

    previous: ChainEnd
    events: Sequence[ExportedEvent]


@dataclass(frozen=True, slots=True)
class ExportAudit:
    """Exports events, in the order of the chain."""

    _store: Store
    _retention: RetentionStore
    _clock: Clock

    async def export(self, caller: Caller, after: int, page_size: int) -> Exported:
        """Events of all keyspaces, each as the text that its hash covers.

        Args:
            after: behind which event to begin; 0 for the first one that the store holds.

        Raises:
            InvalidInput: a field is wrong, or the event at `after` was removed.
            Forbidden: the caller is not bound to every keyspace and `system`.
        """
        _require_every_event(caller)
        limit = read_page_size(page_size)
        async with self._store.snapshot() as snapshot:
            cut = await snapshot.audit_cut()
            after = after or cut.removed.count
            if after < cut.removed.count:
                raise InvalidInput.field(
                    "after_sequence",
                    f"the events up to {cut.removed.count} were removed; start after them, and "
                    "find the events before in an earlier archive",
                )
            head = await snapshot.end_of_events()
            if after > head.count:
                raise InvalidInput.field("after_sequence", f"the last event is {head.count}")
            previous = cut.removed
            if after > cut.removed.count:
                (before,) = await snapshot.list_events(EventFilter(), after=after - 1, limit=1)
                previous = ChainEnd(after, before.hash)
            events = await snapshot.list_events(EventFilter(), after=after, limit=limit)
        exported: list[ExportedEvent] = []
        pauses = Pauses(_TEXT_AT_A_TIME)
        for one in events:
            text = text_of(one.sequence, one.revision, one.event)
            exported.append(ExportedEvent(text, one.hash))
            await pauses.after(len(text))
        return Exported(previous, exported)

    async def record_export(self, caller: Caller, after: int, end: ChainEnd) -> ChainEnd:
        """Records that all events up to `end` are in an archive, so that they may be removed.

        Args:
            after: the event before the first one in the last part of the archive.

        Returns:
            The last event that is recorded as exported.

        Raises:
            InvalidInput: there is a gap before, or `end` is no event of this log.
            Forbidden: the caller is not bound to every keyspace and `system`.
        """
        _require_every_event(caller)
        if not 0 <= after < end.count or len(end.hash) != _HASH_BYTES:
            raise InvalidInput.field("sequence", "must be above after_sequence, with its hash")
        event = audit_log_event(
            "audit.export",
            caller,
            self._clock.now(),
            first=after + 1,
            last=end.count,
            hash=end.hash.hex(),
        )
        try:
            return await self._retention.record_export(after, end, event)
        except ChainBroken as error:
            raise InvalidInput.field("sequence", str(error)) from None


def _require_every_event(caller: Caller) -> None:
    require_the_chain(caller)
    caller.require_reach(SYSTEM)
