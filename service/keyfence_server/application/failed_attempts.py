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

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from keyfence_server.application.ports import AuditEvent, Clock, CredentialId
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.identifiers import new_event_id
from keyfence_server.domain.verdicts import Reason

ACTION: Final = "check.denied"
LOG_IN_ACTION: Final = "account.log_in_denied"
CALL_ACTION: Final = "call.denied"

_SECONDS_A_MINUTE: Final = 60


class _Kind(NamedTuple):
    """What attempts are put together by.

    Attributes:
        actor_id: the caller's credential, where that passed and was not enough.
        method: the RPC that it was not enough for.
    """

    minute: int
    keyspace: str
    action: str
    reason: str
    account_id: str
    subject: str
    address: str
    actor_id: CredentialId | None = None
    method: str = ""

    def without_particulars(self) -> _Kind:
        """What is left to tell apart when there are too many kinds."""
        return _Kind(self.minute, self.keyspace, self.action, self.reason, "", "", "")


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

    def note(
        self,
        reason: Reason,
        keyspace: str,
        facts: KeyFacts | None,
        display_prefix: str,
        address: str,
        request_id: str | None,
    ) -> None:
        """Notes an attempt.

        Args:
            keyspace: the one that it was about; empty for unknown.
            facts: the key's, if it is known.
            display_prefix: what may be shown of an unknown key; empty for nothing.
            request_id: of the request that it was made in, if that had one.
        """
        account_id = facts.key.account_id if facts else ""
        subject = facts.key_id if facts else display_prefix
        self._count(
            _Kind(
                self._this_minute(),
                keyspace,
                ACTION,
                reason.name,
                account_id,
                subject=subject,
                address=address,
            ),
            request_id,
        )

    def note_log_in(
        self, reason: str, keyspace: str, account_id: str, address: str, request_id: str | None
    ) -> None:
        """Notes somebody who could not log in.

        Args:
            reason: the error that they got.
            account_id: empty, if no account has the address that they gave. The address
                itself is not kept: it may be a password that was put in the wrong place.
        """
        self._count(
            _Kind(
                self._this_minute(),
                keyspace,
                LOG_IN_ACTION,
                reason,
                account_id,
                subject=account_id,
                address=address,
            ),
            request_id,
        )

    def note_call(
        self,
        reason: str,
        keyspace: str,
        account_id: str,
        actor_id: CredentialId,
        method: str,
        address: str,
        request_id: str | None,
    ) -> None:
        """Notes a caller whose credential passed and did not suffice for what it asked.

        Args:
            reason: the error that it got.
            keyspace: the credential's own, as the account is.
            method: the RPC's full name.
        """
        self._count(
            _Kind(
                self._this_minute(),
                keyspace,
                CALL_ACTION,
                reason,
                account_id,
                subject=actor_id,
                address=address,
                actor_id=actor_id,
                method=method,
            ),
            request_id,
        )

    def _this_minute(self) -> int:
        return int(self._clock.timestamp() // _SECONDS_A_MINUTE)

    def _count(self, kind: _Kind, request_id: str | None) -> None:
        self.noted += 1
        now = self._clock.timestamp()
        if kind.minute != self._minute:
            self._minute, self._kinds = kind.minute, 0
        tally = self._tallies.get(kind)
        if tally is None and self._kinds >= self._most_kinds:
            kind = kind.without_particulars()
            tally = self._tallies.get(kind)
        if tally is None:
            self._kinds += 1
            self._tallies[kind] = _Tally(1, now, now, request_id)
        else:
            tally.count += 1
            tally.last = now

    def take(self, *, unfinished: bool = False) -> list[AuditEvent]:
        """The events of the minutes that are over, to be written down.

        Args:
            unfinished: of this minute, too.
        """
        minute = self._this_minute()
        due = [kind for kind in self._tallies if unfinished or kind.minute != minute]
        return [_event(kind, self._tallies.pop(kind)) for kind in due]


def _event(kind: _Kind, tally: _Tally) -> AuditEvent:
    last = datetime.fromtimestamp(tally.last, UTC)
    details: dict[str, object] = {"reason": kind.reason, "count": tally.count}
    if kind.method:
        details["method"] = kind.method
    if kind.address:
        details["address"] = kind.address
    if tally.count > 1:
        details["first_time"] = datetime.fromtimestamp(tally.first, UTC).isoformat()
    return AuditEvent(
        event_id=new_event_id(last),
        time=last,
        action=kind.action,
        actor_key_id=kind.actor_id,
        keyspace=kind.keyspace,
        account_id=kind.account_id or None,
        subject=kind.subject,
        request_id=tally.request_id,
        details=details,
    )
