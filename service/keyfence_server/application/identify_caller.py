"""Identifies the caller by the credential of the call, and by nothing else, and notes for the
audit log which calls were denied."""

from __future__ import annotations

from dataclasses import dataclass

from keyfence_server.application.callers import (
    AccountKey,
    Caller,
    Operator,
    Owner,
    caller_with_key,
    caller_with_session,
    rejection,
)
from keyfence_server.application.calls import NO_CALL, Call
from keyfence_server.application.failed_attempts import CALL_ACTION, Attempt
from keyfence_server.application.ports import Clock
from keyfence_server.application.presented_keys import PresentedKeys
from keyfence_server.application.presented_sessions import PresentedSessions
from keyfence_server.application.write_behind import WriteBehind
from keyfence_server.domain.errors import Unauthenticated
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.keyspaces import SYSTEM
from keyfence_server.domain.reasons import Reason


@dataclass(frozen=True, slots=True)
class IdentifyCaller:
    """Identifies callers.

    Args:
        notes: where it is noted which credentials are used, and which are denied.
        sessions: None: there are none, and no token of one is accepted.
    """

    _presented: PresentedKeys
    _clock: Clock
    _notes: WriteBehind
    _sessions: PresentedSessions | None = None

    def identify_from_memory(self, credential: str, call: Call) -> Caller | None:
        """The caller, if memory has the credential; None: `identify` has to look it up.

        Raises:
            Unauthenticated: the credential does not pass.
        """
        facts = self._presented.recall(credential)
        return None if facts is None else self._with_key(facts, call)

    async def identify(self, credential: str, call: Call = NO_CALL) -> Caller:
        """The bearer of this credential; empty for a call without one.

        Raises:
            Unauthenticated: it is missing, or does not pass.
            StoreUnavailable: memory does not have it, and the store cannot be asked.
        """
        if self._sessions is not None and self._sessions.looks_like_one(credential):
            return await self._with_session(self._sessions, credential, call)
        found = await self._presented.find(credential, address=call.address)
        if isinstance(found, KeyFacts):
            return self._with_key(found, call)
        prefix = await self._presented.display_prefix_of(credential, SYSTEM)
        # An attempt at Keyfence's own door is for operators, whatever it was made with.
        self._note_denied(Attempt(SYSTEM, found.name, subject=prefix), call)
        raise rejection(found)

    def note_forbidden(self, caller: Caller, reason: str, call: Call) -> None:
        """Notes for the audit log that a caller may not do what it asked for. Calls without a
        credential are not noted, because the event would name no one.

        Args:
            reason: the name of an `ErrorReason`.
        """
        if caller.credential_id is not None:
            of_operator = caller.facts.key.account_id if isinstance(caller, Operator) else ""
            keyspace, account_id = caller.own_account or Owner(SYSTEM, of_operator)
            attempt = Attempt(
                keyspace,
                reason,
                account_id,
                subject=caller.credential_id,
                address=call.address,
                action=CALL_ACTION,
                actor_id=caller.credential_id,
                method=call.method,
            )
            self._notes.attempts.note(attempt, call.request_id)

    def _with_key(self, facts: KeyFacts, call: Call) -> Operator | AccountKey:
        try:
            caller = caller_with_key(facts, self._clock, call)
        except Unauthenticated as error:
            key = facts.key
            self._note_denied(Attempt(key.keyspace, error.cause, key.account_id, key.key_id), call)
            raise
        self._notes.uses.note_call(facts.key_id, call.address)
        return caller

    async def _with_session(self, sessions: PresentedSessions, token: str, call: Call) -> Caller:
        found = await sessions.find(token)
        if found is None:
            # What a made-up token says of itself is not kept: it may say anything.
            self._note_denied(Attempt(SYSTEM, Reason.KEY_UNKNOWN.name), call)
            raise rejection(Reason.KEY_UNKNOWN)
        try:
            return caller_with_session(found, self._clock, call)
        except Unauthenticated as error:
            session = found.session
            attempt = Attempt(session.keyspace, error.cause, session.account_id, session.session_id)
            self._note_denied(attempt, call)
            raise

    def _note_denied(self, attempt: Attempt, call: Call) -> None:
        self._notes.attempts.note(attempt._replace(address=call.address), call.request_id)
