"""Writes down what was noted on the hot path: keys' uses, and attempts that failed.

It runs beside the checks and never in their way. While the store is away it keeps what it
has, within bounds, and tries again at the next interval; the last time is when the
server drains.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog

from keyfence_server.application.failed_attempts import (
    CALL_ACTION,
    LOG_IN_ACTION,
    Attempt,
    FailedAttempts,
)
from keyfence_server.application.ports import (
    AuditEvent,
    Clock,
    CredentialId,
    NoteStore,
    StoreUnavailable,
)
from keyfence_server.application.usage import Uses
from keyfence_server.domain.keys import KeyId
from keyfence_server.domain.verdicts import Reason

_MOST_PENDING_EVENTS: Final = 20_000

_log = structlog.get_logger("keyfence.write_behind")


class WriteBehind:
    """Takes notes, and writes them down.

    Args:
        days_kept: for how many days to keep how often each key was used on each.

    Attributes:
        failures: how often nothing could be written down.
        events_left_out: events that were dropped, since the store was away for so long.
    """

    def __init__(self, store: NoteStore, clock: Clock, *, days_kept: int) -> None:
        self._store = store
        self._clock = clock
        self._days_kept = days_kept
        self._pending: list[AuditEvent] = []
        self._writing = asyncio.Lock()
        self.uses = Uses(clock)
        self.attempts = FailedAttempts(clock)
        self.failures = 0
        self.events_left_out = 0

    def __len__(self) -> int:
        return len(self.uses) + len(self.attempts) + len(self._pending)

    def used(self, key_id: KeyId, address: str) -> None:
        """Notes that a check of a key passed."""
        self.uses.note(key_id, address)

    def called(self, key_id: KeyId, peer: Callable[[], str]) -> None:
        """Notes that a key was the credential of a call to Keyfence itself."""
        self.uses.note_call(key_id, peer)

    def denied(
        self,
        reason: Reason,
        keyspace: str,
        *,
        account_id: str = "",
        subject: str = "",
        address: str = "",
        request_id: str | None = None,
    ) -> None:
        """Notes an attempt that failed. To present no key at all is none.

        Args:
            subject: the id of the key or session, if it is known; or what may be shown of
                an unknown key.
        """
        if reason is not Reason.CREDENTIAL_MISSING:
            attempt = Attempt(keyspace, reason.name, account_id, subject, address)
            self.attempts.note(attempt, request_id)

    def log_in_denied(
        self,
        reason: str,
        keyspace: str,
        *,
        account_id: str = "",
        address: str = "",
        request_id: str | None = None,
    ) -> None:
        """Notes somebody who could not log in.

        Args:
            reason: the error that they got.
            account_id: empty, if no account has the address that they gave. The address
                itself is not kept: it may be a password that was put in the wrong place.
        """
        attempt = Attempt(keyspace, reason, account_id, account_id, address, LOG_IN_ACTION)
        self.attempts.note(attempt, request_id)

    def forbidden(
        self,
        reason: str,
        keyspace: str,
        *,
        account_id: str,
        actor_id: CredentialId,
        method: str,
        address: str,
        request_id: str | None,
    ) -> None:
        """Notes a caller who is known and asked for what it may not do."""
        attempt = Attempt(
            keyspace,
            reason,
            account_id,
            subject=actor_id,
            address=address,
            action=CALL_ACTION,
            actor_id=actor_id,
            method=method,
        )
        self.attempts.note(attempt, request_id)

    async def keep(self, interval_seconds: float) -> None:
        """Writes down at every interval, until it is cancelled."""
        while True:
            await asyncio.sleep(interval_seconds)
            await self.flush()

    async def flush(self, *, finally_: bool = False) -> None:
        """Writes down what is noted.

        Args:
            finally_: there is no next time, so that nothing can wait for its minute to
                be over.
        """
        async with self._writing:
            await self._write_uses()
            await self._write_events(unfinished=finally_)

    async def _write_uses(self) -> None:
        uses = self.uses.take()
        if not uses:
            return
        forget_before = (self._clock.now() - timedelta(days=self._days_kept)).date()
        try:
            await self._store.add_uses(uses, forget_before=forget_before)
        except Exception as error:  # noqa: BLE001 - notes must outlive any fault of the store
            self._note_failure(error)
            # If it was written all the same, it counts twice: a number that is a little too
            # high misleads nobody, one that is missing might.
            self.uses.put_back(uses)

    async def _write_events(self, *, unfinished: bool) -> None:
        self._pending += self.attempts.take(unfinished=unfinished)
        left_out = max(0, len(self._pending) - _MOST_PENDING_EVENTS)
        self.events_left_out += left_out
        del self._pending[:left_out]
        if not self._pending:
            return
        try:
            await self._store.append_events(self._pending)
        except Exception as error:  # noqa: BLE001 - the same
            self._note_failure(error)
        else:
            self._pending.clear()

    def _note_failure(self, error: Exception) -> None:
        self.failures += 1
        expected = isinstance(error, StoreUnavailable)
        _log.warning(
            "uses and failed attempts cannot be written down yet, and are kept",
            exc_info=None if expected else error,
        )
