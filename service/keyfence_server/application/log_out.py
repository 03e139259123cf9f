"""Ending sessions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from keyfence_server.application.audit import account_event
from keyfence_server.application.callers import AccountSession, Caller
from keyfence_server.application.mutations import Done, Effect, Mutations
from keyfence_server.application.ports import Change, ChangeKind, Clock, Transaction
from keyfence_server.application.read_accounts import get_for_caller
from keyfence_server.application.session_keys import Ending, account_change
from keyfence_server.domain.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class LogOut:
    """Ends sessions."""

    _mutations: Mutations
    _clock: Clock

    async def log_out(
        self,
        caller: Caller,
        account_id: str = "",
        *,
        all_sessions: bool = False,
        revoke_keys: bool = False,
    ) -> Done[int]:
        """Ends the caller's session, or all sessions of an account, and tells how many keys
        were revoked.

        When this returns, no server and no cache accepts the sessions' tokens or those keys.

        Args:
            revoke_keys: whether to revoke the keys that were made in the session; with
                `all_sessions`, in any session of the account, also one that ended before. The
                keyspace can demand that in any case.

        Raises:
            Forbidden: the caller manages no accounts.
            NotFound: there is no such account for this caller.
            InvalidInput: the request does not say which sessions to end.
        """
        work = partial(self._end, account_id, all_sessions, revoke_keys)
        return await self._mutations.run(caller, work, restrictive=True)

    async def _end(
        self,
        account_id: str,
        all_sessions: bool,
        revoke_keys: bool,
        transaction: Transaction,
        asking: Caller,
    ) -> Effect[int]:
        asking.require_account_management("accounts:write")
        account = await get_for_caller(transaction, asking, account_id)
        now = self._clock.now()
        ending = Ending(transaction, account, now)
        if all_sessions:
            ended = await transaction.end_sessions(account.account_id, now)
            revoked = await ending.revoke_keys(lambda _: True, on_demand=revoke_keys)
            if not ended and not revoked:
                return Effect(0)
            event = account_event("account.log_out", asking, account, now, revoked, sessions=ended)
            return Effect(revoked, (account_change(account),), event)
        if not isinstance(asking, AccountSession):
            raise InvalidInput.field(
                "all_sessions", "an operator's credential has no session; set all_sessions"
            )
        session, own = asking.facts.session, asking.credential_id
        await transaction.update_session(session.ended(now))
        revoked = await ending.revoke_keys(lambda one: one == own, on_demand=revoke_keys)
        changes = [Change(ChangeKind.SESSION, own, session.keyspace)]
        if revoked:
            # A change of the account concerns all its keys.
            changes.append(account_change(account))
        event = account_event("account.log_out", asking, account, now, revoked, own)
        return Effect(revoked, tuple(changes), event)
