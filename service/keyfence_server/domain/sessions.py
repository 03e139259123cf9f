"""What a session is: the time from a log-in to a log-out, or to its end.

The token that its holder has is a signed pointer to the record here. What the record
says counts; what the token says must agree with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, NewType

from keyfence_server.domain.accounts import AccountId, AccountState
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.reasons import Reason

SessionId = NewType("SessionId", str)

MAX_SESSIONS: Final = 100
"""How many sessions of an account may be usable at once. A log-in beyond that ends the oldest one.
To refuse the log-in would lock out an owner whose program logs in and never logs out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session's record. Times are aware and in UTC, with microseconds.

    Attributes:
        end_time: when it was ended before its time; None: it was not.
        revision: the revision at which this record was written.
    """

    session_id: SessionId
    account_id: AccountId
    keyspace: str
    create_time: datetime
    expire_time: datetime
    end_time: datetime | None = None
    revision: int = 0

    def ended(self, now: datetime) -> Session:
        """The session, over for good. One that has ended stays as it was."""
        return self if self.end_time is not None else replace(self, end_time=now)


@dataclass(frozen=True, slots=True, eq=False)
class SessionFacts:
    """What caches keep of a session, and no decision: the record, whether its account
    works, and its keyspace as it was when the facts were put together."""

    session: Session
    account_state: AccountState
    keyspace: Keyspace

    @property
    def session_id(self) -> SessionId:
        """The session's id."""
        return self.session.session_id

    def reason_at(self, now: float) -> Reason:
        """Why the session passes or does not, in the order of precedence.

        The reasons are those of keys: an ended session is like a revoked key.

        Args:
            now: seconds since the epoch.
        """
        if self.session.end_time is not None:
            return Reason.KEY_REVOKED
        if now >= self.session.expire_time.timestamp():
            return Reason.KEY_EXPIRED
        if self.keyspace.declaration.accounts is None:
            # The keyspace has no accounts any more. They may come back, and so may this.
            return Reason.KEY_DISABLED
        if self.account_state is AccountState.DISABLED:
            return Reason.ACCOUNT_DISABLED
        return Reason.OK
