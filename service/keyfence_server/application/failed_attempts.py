"""Attempts that failed: who tried to use what, or to do what, and was denied.

Anyone can cause them, and as many as they like. So they are put together: those of one
minute that are alike in keyspace, reason, key, RPC and address are one event with a count. Of
different ones only so many a minute are told apart; the others are counted together by
keyspace and reason. Nobody can fill the memory or the audit log with them, and none goes
uncounted.

A text that looks like a key of a keyspace is known by its display prefix, as keys are.
Of any other text nothing is kept: it may be a password that was put in the wrong place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, NamedTuple

from keyfence_server.application.ports import AuditEvent, Clock, CredentialId
from keyfence_server.domain.identifiers import new_event_id

ACTION: Final = "check.denied"
LOG_IN_ACTION: Final = "account.log_in_denied"
CALL_ACTION: Final = "call.denied"

_SECONDS_A_MINUTE: Final = 60


class Attempt(NamedTuple):
    """An attempt that failed, by what alike ones are put together.

    Attributes:
        keyspace: the one that it was about; empty for unknown.
        reason: why it failed.
        account_id: whose key, session or account it was about; empty for unknown.
        subject: the id of the key, session or account, if it is known; or what may be
            shown of an unknown key; empty for nothing.
        address: where it came from; empty for unknown.
        reported_by: the credential of whom it was told by; empty for this process.
        actor_id: the caller's credential, where that passed and was not enough.
        method: the full name of the RPC that it was not enough for.
    """

    keyspace: str
    reason: str
    account_id: str = ""
    subject: str = ""
    address: str = ""
    action: str = ACTION
    reported_by: str = ""
    actor_id: CredentialId | None = None
    method: str = ""


class _Kind(NamedTuple):
    minute: int
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class ReportedAttempts:
    """Attempts that were alike and failed elsewhere.

    Attributes:
        first: when the first one was, and `last` the last one, in seconds since the epoch.
        request_id: of the first one, if it was made in a request that had one.
    """

    attempt: Attempt
    count: int
    first: float
    last: float
    request_id: str | None


@dataclass(slots=True)
class _Tally:
    """How many attempts of a kind there were, and when.

    Attributes:
        request_id: of the first one.
    """

    count: int
    first: float
    last: float
    request_id: str | None


class FailedAttempts:
    """What is noted of attempts that failed and not written down yet.

    Args:
        most_kinds: how many kinds of attempts to tell apart in a minute.

    Attributes:
        noted: how many attempts there were in all.
    """

    def __init__(self, clock: Clock, *, most_kinds: int = 1_000) -> None:
        self._clock = clock
        self._most_kinds = most_kinds
        self._tallies: dict[_Kind, _Tally] = {}
        self._minute = 0
        self._kinds = 0
        self.noted = 0

    def __len__(self) -> int:
        return len(self._tallies)

    def note(self, attempt: Attempt, request_id: str | None) -> None:
        """Notes an attempt that was made now.

        Args:
            request_id: of the request that it was made in, if that had one.
        """
        self.noted += 1
        now = self._clock.timestamp()
        self._count(ReportedAttempts(attempt, 1, now, now, request_id), now)

    def note_reported(self, reported: Iterable[ReportedAttempts]) -> None:
        """Notes what was noted elsewhere. It counts in the minute in which it is told, and
        is bounded with all else of that minute."""
        now = self._clock.timestamp()
        for one in reported:
            # A clock that is ahead elsewhere tells of nothing that is still to come.
            past = replace(one, first=min(one.first, now), last=min(one.last, now))
            self._count(past, now)

    def _count(self, told: ReportedAttempts, now: float) -> None:
        minute = int(now // _SECONDS_A_MINUTE)
        if minute != self._minute:
            self._minute, self._kinds = minute, 0
        attempt = told.attempt
        tally = self._tallies.get(_Kind(minute, attempt))
        if tally is None and self._kinds >= self._most_kinds:
            attempt = Attempt(attempt.keyspace, attempt.reason, action=attempt.action)
            tally = self._tallies.get(_Kind(minute, attempt))
        if tally is None:
            self._kinds += 1
            tally = _Tally(told.count, told.first, told.last, told.request_id)
            self._tallies[_Kind(minute, attempt)] = tally
        else:
            tally.count += told.count
            tally.first = min(tally.first, told.first)
            tally.last = max(tally.last, told.last)

    def take(self, *, unfinished: bool = False) -> list[AuditEvent]:
        """The events of the minutes that are over, to be written down.

        Args:
            unfinished: of this minute, too.
        """
        minute = int(self._clock.timestamp() // _SECONDS_A_MINUTE)
        due = [kind for kind in self._tallies if unfinished or kind.minute != minute]
        return [_event(kind, self._tallies.pop(kind)) for kind in due]


def _event(kind: _Kind, tally: _Tally) -> AuditEvent:
    last = datetime.fromtimestamp(tally.last, UTC)
    attempt = kind.attempt
    details: dict[str, object] = {"reason": attempt.reason, "count": tally.count}
    if attempt.method:
        details["method"] = attempt.method
    if attempt.address:
        details["address"] = attempt.address
    if tally.count > 1:
        details["first_time"] = datetime.fromtimestamp(tally.first, UTC).isoformat()
    if attempt.reported_by:
        details["reported_by"] = attempt.reported_by
    return AuditEvent(
        event_id=new_event_id(last),
        time=last,
        action=attempt.action,
        actor_key_id=attempt.actor_id,
        keyspace=attempt.keyspace,
        account_id=attempt.account_id or None,
        subject=attempt.subject,
        request_id=tally.request_id,
        details=details,
    )
