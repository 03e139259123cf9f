"""Disabling an account with its keys and sessions, and enabling it again."""

from __future__ import annotations

from dataclasses import dataclass, replace

from keyfence_server.application.audit import account_event
from keyfence_server.application.callers import Caller
from keyfence_server.application.key_inputs import read_comment
from keyfence_server.application.mutations import Done, Effect, Mutations
from keyfence_server.application.ports import Clock, Transaction
from keyfence_server.application.read_accounts import get_for_caller
from keyfence_server.application.session_keys import Ending, account_change
from keyfence_server.domain.accounts import Account


@dataclass(frozen=True, slots=True)
class DisableAccount:
    """Disables accounts, and enables them again. For operators."""

    _mutations: Mutations
    _clock: Clock

    async def disable(self, caller: Caller, account_id: str, *, comment: str = "") -> Done[Account]:
        """Stops an account's keys, and ends its sessions.

        When this returns, nothing accepts any of them. Disabling a disabled account
        changes nothing and is no error.

        Raises:
            InvalidInput: no account is named, or the comment is too long.
            Forbidden: the caller is no operator who may.
            NotFound: there is no such account for this caller.
        """
        read_comment(comment)

        async def work(transaction: Transaction, asking: Caller) -> Effect[Account]:
            asking.require_scope("accounts:write")
            before = await get_for_caller(transaction, asking, account_id)
            now = self._clock.now()
            account = before.disabled(now)
            ended = await transaction.end_sessions(account.account_id, now)
            if account is before and not ended:
                return Effect(before)
            revoked = await Ending(transaction, account, now).revoke_keys(lambda _: True)
            details = {"comment": comment, "sessions": ended}
            return await _write(transaction, asking, "account.disable", account, revoked, **details)

        return await self._mutations.run(caller, work, restrictive=True)

    async def enable(self, caller: Caller, account_id: str, *, comment: str = "") -> Done[Account]:
        """Lets a disabled account and its keys work again. Raises as `disable`."""
        read_comment(comment)

        async def work(transaction: Transaction, asking: Caller) -> Effect[Account]:
            asking.require_scope("accounts:write")
            before = await get_for_caller(transaction, asking, account_id)
            account = before.enabled(self._clock.now())
            if account is before:
                return Effect(before)
            return await _write(transaction, asking, "account.enable", account, comment=comment)

        return await self._mutations.run(caller, work)


async def _write(
    transaction: Transaction,
    caller: Caller,
    action: str,
    account: Account,
    revoked_keys: int = 0,
    **details: object,
) -> Effect[Account]:
    await transaction.update_account(account)
    return Effect(
        replace(account, revision=transaction.revision),
        (account_change(account),),
        account_event(action, caller, account, account.update_time, revoked_keys, **details),
    )
