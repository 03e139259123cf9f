"""Facts about sessions, in memory: a room of the cache of facts, bounded like it."""

from __future__ import annotations

from collections import OrderedDict

from keyfence_server.application.ports import Change, ChangeKind
from keyfence_server.domain.accounts import AccountId
from keyfence_server.domain.sessions import Session, SessionFacts, SessionId


class SessionRoom:
    """Remembers sessions, by their ids and by their accounts.

    Args:
        capacity: the most sessions to remember.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._facts: OrderedDict[SessionId, SessionFacts] = OrderedDict()
        self._by_account: dict[AccountId, set[SessionId]] = {}

    def __len__(self) -> int:
        return len(self._facts)

    def recall(self, session_id: SessionId) -> SessionFacts | None:
        """What is remembered of the session."""
        facts = self._facts.get(session_id)
        if facts is not None:
            self._facts.move_to_end(session_id)
        return facts

    def remember(self, facts: SessionFacts) -> None:
        """Remembers a session, at the cost of the one that was asked for longest ago."""
        session = facts.session
        self._facts[session.session_id] = facts
        self._by_account.setdefault(session.account_id, set()).add(session.session_id)
        while len(self._facts) > self._capacity:
            self._drop(next(iter(self._facts)))

    def forget(self, change: Change) -> None:
        """Forgets what the change makes stale."""
        if change.kind is ChangeKind.SESSION and change.subject in self._facts:
            self._drop(SessionId(change.subject))
        elif change.kind is ChangeKind.ACCOUNT:
            for session_id in tuple(self._by_account.get(AccountId(change.subject), ())):
                self._drop(session_id)

    def clear(self) -> None:
        """Forgets everything."""
        self._facts.clear()
        self._by_account.clear()

    def _drop(self, session_id: SessionId) -> None:
        account_id = self._facts.pop(session_id).session.account_id
        sessions = self._by_account[account_id]
        sessions.discard(session_id)
        if not sessions:
            del self._by_account[account_id]


def concerns_session(session: Session | None, change: Change) -> bool:
    """Whether a change touches the session; of none found, whether it may have made it."""
    if session is None:
        return change.created and change.kind is ChangeKind.SESSION
    if change.kind is ChangeKind.SESSION:
        return change.subject == session.session_id
    return change.kind is ChangeKind.ACCOUNT and change.subject == session.account_id
