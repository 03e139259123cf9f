"""Failed attempts: which credential was denied which use or call.

Any client can cause any number of them. So alike attempts of one minute become one event with a
count, and the number of different ones is bounded by budgets that do not touch each other:

- attempts without a known credential have a budget for each keyspace;
- attempts of a known credential have one for each credential and one for each keyspace,
  so that they keep their actor, method and address during a flood of others;
- attempts that a holder reports have one for each holder.

What is beyond a budget is counted with fewer details: first without the address, then by keyspace
and reason alone. A flood fills neither the memory nor the audit log, and every attempt is counted.

Of a text that has the form of a key of a keyspace, the display prefix is kept, as of keys. Of any
other text nothing is kept: it may be a password that was put in the wrong place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from keyfence_server.application.ports import MAX_USE_COUNT, AuditEvent, Clock, CredentialId
from keyfence_server.application.usage import MAX_REPORTED_COUNT, REPORTED_DAYS
from keyfence_server.domain.identifiers import new_event_id
from keyfence_server.domain.reasons import Reason

ACTION: Final = "check.denied"
LOG_IN_ACTION: Final = "account.log_in_denied"
CALL_ACTION: Final = "call.denied"

# How many different attempts of one minute keep their details: without a known credential, for each
# keyspace; of one known credential; of all known credentials of one keyspace; reported by one
# holder; and of all of them together, for the memory's sake.
KEPT_OF_STRANGERS: Final = 100
KEPT_OF_CREDENTIAL: Final = 30
KEPT_OF_KEYSPACE: Final = 500
KEPT_OF_HOLDER: Final = 500
KEPT_IN_ALL: Final = 50_000

_SECONDS_A_MINUTE: Final = 60
_REPORTED_SECONDS: Final = timedelta(days=REPORTED_DAYS).total_seconds()


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

    @property
    def is_of_known_credential(self) -> bool:
        """Whether the credential is known that was denied. Anyone can fail to log in."""
        return bool(self.actor_id or (self.account_id and self.action != LOG_IN_ACTION))


@dataclass(slots=True)
class ReportedAttempts:
    """Attempts that were alike and failed, here or in another process.

    Attributes:
        first: when the first one was, and `last` the last one, in seconds since the epoch.
        request_id: of the first one, if it was made in a request that had one.
    """

    attempt: Attempt
    count: int
    first: float
    last: float
    request_id: str | None


class FailedAttempts:
    """Attempts that failed and are not written to the store yet.

    Attributes:
        noted: how many attempts there were in all.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # By the minute in which they count, and as many details as they keep.
        self._tallies: dict[tuple[int, Attempt], ReportedAttempts] = {}
        self._minute = 0
        self._spent: Counter[tuple[str, ...]] = Counter()
        self.noted = 0

    def __len__(self) -> int:
        return len(self._tallies)

    def note(self, attempt: Attempt, request_id: str | None) -> None:
        """Notes an attempt that was made now. To present no key at all is none.

        Args:
            request_id: of the request that it was made in, if that had one.
        """
        if attempt.reason == Reason.CREDENTIAL_MISSING.name:
            return
        self.noted += 1
        now = self._clock.timestamp()
        self._count(ReportedAttempts(attempt, 1, now, now, request_id), now)

    def note_reported(self, reported: Iterable[ReportedAttempts]) -> int:
        """Notes what another process has reported. It counts in the minute of the report.

        Times in the future count as now, and times too long ago as the earliest that a
        report can be about.

        Returns:
            How many of the reports were not believed, because their count is not plausible.
            They are not noted.
        """
        now = self._clock.timestamp()
        refused = 0
        for one in reported:
            if not 1 <= one.count <= MAX_REPORTED_COUNT:
                refused += 1
                continue
            last = max(now - _REPORTED_SECONDS, min(one.last, now))
            first = max(now - _REPORTED_SECONDS, min(one.first, last))
            self._count(replace(one, first=first, last=last), now)
        return refused

    def _count(self, told: ReportedAttempts, now: float) -> None:
        minute = int(now // _SECONDS_A_MINUTE)
        if minute != self._minute:
            self._minute = minute
            self._spent.clear()
        for attempt in _with_fewer_details(told.attempt):
            tally = self._tallies.get((minute, attempt))
            if tally is not None:
                tally.count = min(tally.count + told.count, MAX_USE_COUNT)
                tally.first = min(tally.first, told.first)
                tally.last = max(tally.last, told.last)
                return
            if self._spend(attempt):
                told.attempt = attempt
                self._tallies[minute, attempt] = told
                return

    def _spend(self, attempt: Attempt) -> bool:
        """Takes what a new kind costs from its budgets, if all of them have it."""
        if attempt == _without_details(attempt):
            return True
        costs = {**_budgets_of(attempt), ("total",): KEPT_IN_ALL}
        if any(self._spent[name] >= most for name, most in costs.items()):
            return False
        self._spent.update(costs.keys())
        return True

    def take(self, *, unfinished: bool = False) -> list[AuditEvent]:
        """The events of the minutes that are over, to be written.

        Args:
            unfinished: also those of the present minute.
        """
        minute = int(self._clock.timestamp() // _SECONDS_A_MINUTE)
        due = [kind for kind in self._tallies if unfinished or kind[0] != minute]
        return [_event(self._tallies.pop(kind)) for kind in due]


def _budgets_of(attempt: Attempt) -> dict[tuple[str, ...], int]:
    keyspace = attempt.keyspace
    if attempt.reported_by:
        return {("holder", attempt.reported_by): KEPT_OF_HOLDER}
    if not attempt.is_of_known_credential:
        return {("strangers", keyspace): KEPT_OF_STRANGERS}
    # Without an address the attempt has a budget of its own: what a credential does from many
    # addresses must not hide which methods it tries.
    part = "credential" if attempt.address else "credential without address"
    credential = str(attempt.actor_id or attempt.subject)
    return {
        (part, keyspace, credential): KEPT_OF_CREDENTIAL,
        ("keyspace", keyspace): KEPT_OF_KEYSPACE,
    }


def _with_fewer_details(attempt: Attempt) -> Iterator[Attempt]:
    """The attempt, and what remains of it where a budget is used up."""
    yield attempt
    if attempt.is_of_known_credential and attempt.address:
        yield attempt._replace(address="")
    yield _without_details(attempt)


def _without_details(attempt: Attempt) -> Attempt:
    return Attempt(
        attempt.keyspace, attempt.reason, action=attempt.action, reported_by=attempt.reported_by
    )


def _event(tally: ReportedAttempts) -> AuditEvent:
    last = datetime.fromtimestamp(tally.last, UTC)
    attempt = tally.attempt
    first = datetime.fromtimestamp(tally.first, UTC).isoformat() if tally.count > 1 else ""
    details = {
        "reason": attempt.reason,
        "count": tally.count,
        "method": attempt.method,
        "address": attempt.address,
        "first_time": first,
        "reported_by": attempt.reported_by,
    }
    return AuditEvent(
        event_id=new_event_id(last),
        time=last,
        action=attempt.action,
        actor_key_id=attempt.actor_id,
        keyspace=attempt.keyspace,
        account_id=attempt.account_id or None,
        subject=attempt.subject,
        request_id=tally.request_id,
        details={name: value for name, value in details.items() if value},
    )
