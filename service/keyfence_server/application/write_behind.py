"""Writes the notes of the hot path to the store: keys' uses, and attempts that failed.

Writing never delays a check. While the store is away the notes are kept, within bounds,
and written at a later interval; the last write is when the server drains.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from keyfence_server.application.failed_attempts import FailedAttempts
from keyfence_server.application.ports import (
    AuditEvent,
    Clock,
    NoteStore,
    StoreUnavailable,
    UseToAdd,
)
from keyfence_server.application.usage import Uses

_MOST_PENDING_EVENTS: Final = 20_000
_USES_AT_ONCE: Final = 2_000
"""How many uses are put together, and written, at once: that takes some milliseconds."""
_Row = TypeVar("_Row", UseToAdd, AuditEvent)

_log = structlog.get_logger("keyfence.write_behind")


class WriteBehind:
    """Writes down what is noted in `uses` and `attempts`.

    Attributes:
        failures: how often a write failed.
        events_left_out: events that were dropped, because the store was away for too long.
        rows_refused: notes that were dropped, because the store refused them and took others.
    """

    def __init__(self, store: NoteStore, clock: Clock) -> None:
        self._store = store
        self._pending: list[AuditEvent] = []
        self._writing = asyncio.Lock()
        self.uses = Uses(clock)
        self.attempts = FailedAttempts(clock)
        self.failures = 0
        self.events_left_out = 0
        self.rows_refused = 0

    def __len__(self) -> int:
        return len(self.uses) + len(self.attempts) + len(self._pending)

    async def keep(self, interval_seconds: float) -> None:
        """Writes down at every interval, until it is cancelled."""
        while True:
            await asyncio.sleep(interval_seconds)
            await self.flush()

    async def flush(self, *, finally_: bool = False) -> None:
        """Writes down what is noted.

        Args:
            finally_: there is no next time, so that nothing can wait for its minute to be over.
        """
        async with self._writing:
            # If a write that failed took effect all the same, its uses count twice. A count that is
            # slightly too high does no harm; a missing use could make a key look unused.
            for _ in range(1 + len(self.uses) // _USES_AT_ONCE):
                is_written = await self._write(
                    self.uses.take(_USES_AT_ONCE), self._store.add_uses, self.uses.put_back
                )
                if not is_written:
                    break
            waiting = self._within_bounds(self._pending + self.attempts.take(unfinished=finally_))
            self._pending = []
            await self._write(waiting, self._store.append_events, self._pending.extend)

    def _within_bounds(self, events: list[AuditEvent]) -> list[AuditEvent]:
        """The events, or as many as may wait: the oldest are left out, those of strangers
        before those of known accounts."""
        excess = len(events) - _MOST_PENDING_EVENTS
        if excess <= 0:
            return events
        self.events_left_out += excess
        in_order = sorted(events, key=lambda event: event.account_id is not None)
        left_out = {event.event_id for event in in_order[:excess]}
        return [event for event in events if event.event_id not in left_out]

    async def _write(
        self,
        rows: list[_Row],
        write: Callable[[list[_Row]], Awaitable[None]],
        keep: Callable[[list[_Row]], None],
    ) -> bool:
        """Writes rows, and keeps those that are to be tried again. Says whether none are.

        A row that the store refuses must not keep the others from being written. So rows
        that cannot be written together are written in halves. A row that is refused alone
        is dropped if any other was written; if none was, the fault may be the store's.
        """
        parts: list[list[_Row]] = [rows] if rows else []
        refused: list[_Row] = []
        fault: Exception | None = None
        try:
            while parts:
                try:
                    await write(parts[-1])
                except StoreUnavailable:
                    self._note_failure(None)
                    return False
                except Exception as error:  # noqa: BLE001 - notes must outlive any fault
                    fault = error
                    part = parts.pop()
                    middle = len(part) // 2
                    if middle:
                        parts += [part[middle:], part[:middle]]
                    else:
                        refused += part
                else:
                    parts.pop()
            if fault is not None:
                self._note_failure(fault)
            if refused and len(refused) < len(rows):
                self.rows_refused += len(refused)
                refused = []
        finally:
            # Also when the writing is cancelled.
            for part in reversed(parts):
                refused += part
            keep(refused)
        return not refused

    def _note_failure(self, fault: Exception | None) -> None:
        self.failures += 1
        if fault is not None:
            _log.error("notes_not_written", exc_info=fault)
