"""Ending sessions."""

from __future__ import annotations

from datetime import datetime

from keyfence_server.application.audit import account_event
from keyfence_server.application.callers import AccountSession, Caller
from keyfence_server.application.mutations import Done, Effect, Mutations
from keyfence_server.application.ports import Change, ChangeKind, Clock, Transaction
from keyfence_server.application.read_accounts import get_for_caller
from keyfence_server.domain.accounts import Account
from keyfence_server.domain.errors import InvalidInput


class LogOut:
    """Ends sessions."""

    def __init__(self, mutations: Mutations, clock: Clock) -> None:
        self._mutations = mutations
        self._clock = clock

    async def log_out(
        self, caller: Caller, account_id: str = "", *, all_sessions: bool = False
    ) -> Done[None]:
        """Ends the caller's session, or all sessions of an account.

        When this returns, nothing accepts their tokens.

        Raises:
            Forbidden: the caller manages no accounts.
            NotFound: there is no such account for this caller.
            InvalidInput: it is not said which sessions to end.
        """

        async def work(transaction: Transaction, asking: Caller) -> Effect[None]:
            asking.require_account_management("accounts:write")
            account = await get_for_caller(transaction, asking, account_id)
            now = self._clock.now()
            if all_sessions:
                return await _end_all(transaction, asking, account, now)
            if isinstance(asking, AccountSession):
                return await _end_own(transaction, asking, account, now)
            raise InvalidInput.field(
                "all_sessions", "an operator has no session to end; say that all are meant"
            )

        return await self._mutations.run(caller, work)


async def _end_own(
    transaction: Transaction, caller: AccountSession, account: Account, now: datetime
) -> Effect[None]:
    session = caller.facts.session
    await transaction.update_session(session.ended(now))
    return Effect(
        None,
        (Change(ChangeKind.SESSION, session.session_id, session.keyspace),),
        account_event("account.log_out", caller, account, now, session.session_id),
    )


async def _end_all(
    transaction: Transaction, caller: Caller, account: Account, now: datetime
) -> Effect[None]:
    ended = await transaction.end_sessions(account.account_id, now)
    if not ended:
        return Effect(None)
    return Effect(
        None,
        (Change(ChangeKind.ACCOUNT, account.account_id, account.keyspace),),
        account_event("account.log_out", caller, account, now, sessions=ended),
    )
