"""Removes what is no longer kept, a slice at a time.

Every server does it. Between two slices it pauses, so that mutations get their turn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog

from keyfence_server.application.audit import audit_log_event
from keyfence_server.application.ports import (
    AuditEvent,
    ChainBroken,
    ChainEnd,
    Clock,
    RetentionStore,
    StoreUnavailable,
)

REQUESTS_REMEMBERED: Final = timedelta(hours=24)
"""For how long a repeated request is recognised."""

SESSIONS_REMEMBERED: Final = timedelta(days=1)
"""For how long an expired session is told apart from an unknown one."""

_log = structlog.get_logger("keyfence.retention")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """For how long rows are kept.

    Attributes:
        use_days: days of uses by day.
        audit_days: days of audit events; None: for ever.
        unexported_events: whether audit events may be removed that were not exported.
        changes: the number of newest revisions whose changes are kept.
        changes_need_acknowledgement: whether other processes read the changes.
    """

    use_days: int
    audit_days: int | None
    unexported_events: bool
    changes: int
    changes_need_acknowledgement: bool


@dataclass(slots=True, eq=False)
class Retention:
    """Removes rows from a store.

    Args:
        pause: waits between two slices.
    """

    _store: RetentionStore
    _clock: Clock
    _kept: Kept
    _pause: Callable[[], Awaitable[None]]
    _broken: str | None = field(init=False, default=None)

    async def sweep(self) -> Mapping[str, int]:
        """Removes all that is no longer kept. While the store is away nothing is removed.

        Returns:
            How many rows were removed from each table.
        """
        now = self._clock.now()
        kept = self._kept
        removals: dict[str, Callable[[], Awaitable[int]]] = {
            "requests": partial(self._store.remove_requests, now - REQUESTS_REMEMBERED),
            "sessions": partial(self._store.remove_sessions, now - SESSIONS_REMEMBERED),
            "key_use_days": partial(
                self._store.remove_use_days, (now - timedelta(days=kept.use_days)).date()
            ),
            "changes": partial(
                self._store.remove_changes,
                kept=kept.changes,
                acknowledged=kept.changes_need_acknowledgement,
            ),
        }
        if kept.audit_days is not None:
            removals["audit_events"] = partial(self._remove_events, now, kept.audit_days)
        total: Counter[str] = Counter()
        try:
            for table, remove in removals.items():
                while removed := await remove():
                    total[table] += removed
                    await self._pause()
        except StoreUnavailable as error:
            _log.info("removal_postponed", error=str(error))
        if total:
            _log.info("old_rows_removed", **total)
        return total

    async def _remove_events(self, now: datetime, days: int) -> int:
        # Whole days: a removal is an event too, and there should be few of them.
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)

        def event_of(first: int, last: ChainEnd, is_exported: bool) -> AuditEvent:
            details = {"first": first, "last": last.count, "hash": last.hash.hex()}
            return audit_log_event("audit.remove", None, now, exported=is_exported, **details)

        try:
            return await self._store.remove_events(
                before=midnight - timedelta(days=days),
                unexported=self._kept.unexported_events,
                event_of=event_of,
            )
        except ChainBroken as error:
            if self._broken != str(error):
                self._broken = str(error)
                _log.error(
                    "audit_log_changed",
                    problem=str(error),
                    consequence="no audit events are removed",
                    advice="run `keyfence audit verify`",
                )
            return 0
