"""What a store keeps for a stated time, and forgets then.

Each removal is a transaction of its own and removes a limited number of rows, so that no mutation
waits for longer than one of them. Several servers may remove from one store at the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Final, Protocol

from keyfence_server.application.ports.audit import AuditEvent, ChainEnd

ROWS_AT_ONCE: Final = 500
"""How many rows one removal deletes at most."""


class ChainBroken(Exception):
    """The chain of audit events does not hold where it was to be exported or removed."""


class RetentionStore(Protocol):
    """Removes rows, and keeps account of exported audit events. All methods raise
    `StoreUnavailable`, and then nothing was changed, or it is not known whether it was."""

    async def record_export(self, after: int, end: ChainEnd, event: AuditEvent) -> ChainEnd:
        """Records that all events up to `end` are in an archive, and appends the event that says
        so. If that is recorded already, nothing is changed.

        Args:
            after: the last event that was exported before. What is behind it is new.

        Returns:
            The last event that is recorded as exported now.

        Raises:
            ChainBroken: there is a gap behind what was recorded before, or `end` is no event of
                this chain. Nothing was changed.
        """

    async def remove_events(
        self,
        *,
        before: datetime,
        unexported: bool,
        event_of: Callable[[int, ChainEnd, bool], AuditEvent],
    ) -> int:
        """Removes the oldest events, up to the first one that is not older than `before`, and
        appends the event that says so.

        Args:
            unexported: whether events may be removed that are not recorded as exported.
            event_of: makes that event of the first and the last event that are removed, and of
                whether all of them are recorded as exported.

        Returns:
            How many were removed.

        Raises:
            ChainBroken: what was to be removed is not what was written. Nothing was changed.
        """

    async def remove_changes(self, *, kept: int, acknowledged: bool) -> int:
        """Removes the oldest changes, whole revisions, but not those of the newest `kept`.

        Args:
            acknowledged: whether to remove only what every registered process has acknowledged.

        Returns:
            How many were removed.
        """

    async def remove_requests(self, before: datetime) -> int:
        """Removes what creating requests made before this time. Returns the number of rows."""

    async def remove_sessions(self, before: datetime) -> int:
        """Removes sessions that expired before this time. Returns the number of rows."""

    async def remove_use_days(self, before: date) -> int:
        """Removes the uses by day of earlier days. Returns the number of rows."""
