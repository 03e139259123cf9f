"""Changing an account: its name, its address, its password, its plan.

A stolen session must not be enough to take over the account: a session changes the address and the
password only with the present password. Checking and hashing take long, so they come before the
transaction, which makes sure that nothing has changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from keyfence_server.application.account_inputs import (
    get_accounts_keyspace,
    read_account_display_name,
    read_email,
    read_new_password,
    read_password,
    read_plan,
)
from keyfence_server.application.audit import account_event
from keyfence_server.application.callers import AccountSession, Caller
from keyfence_server.application.key_inputs import read_labels, require_changeable
from keyfence_server.application.log_in_attempts import LogInAttempts
from keyfence_server.application.mutations import Done, Effect, Mutations
from keyfence_server.application.ports import Clock, PasswordHashes, Store, Transaction
from keyfence_server.application.read_accounts import get_for_caller
from keyfence_server.application.register_account import require_email_is_free
from keyfence_server.application.session_keys import Ending, account_change
from keyfence_server.domain.accounts import Account, PasswordHash
from keyfence_server.domain.declarations import AccountsDeclaration
from keyfence_server.domain.errors import Conflict, Forbidden, InvalidInput
from keyfence_server.domain.secrets import Plaintext

_NOTHING: Final = Plaintext("")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountUpdate:
    """How an account should become. Only the fields that `fields` names count, and
    `new_password`, if it is not empty."""

    account_id: str = ""
    fields: Collection[str] = ()
    email: str = ""
    display_name: str = ""
    plan: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    new_password: Plaintext = _NOTHING
    current_password: Plaintext = _NOTHING
    revoke_keys: bool = False
    if_revision: int = 0

    @property
    def sets_password(self) -> bool:
        """Whether there is a new password."""
        return bool(self.new_password.reveal())


@dataclass(frozen=True, slots=True)
class ChangedAccount:
    """An account as it is now, and how many keys were revoked with its password."""

    account: Account
    revoked_keys: int = 0


@dataclass(frozen=True, slots=True)
class UpdateAccount:
    """Changes accounts."""

    _store: Store
    _mutations: Mutations
    _hashes: PasswordHashes
    _attempts: LogInAttempts
    _clock: Clock

    async def update(self, caller: Caller, update: AccountUpdate) -> Done[ChangedAccount]:
        """Changes what the update names and nothing else.

        A new password ends the account's other sessions, and on demand revokes the keys that
        were made in them.

        Raises:
            InvalidInput: a field cannot be changed, or not to that.
            Forbidden: the caller may not change it, or has not proved to be the owner.
            NotFound: there is no such account for this caller.
            AlreadyDone: another account has the address.
            Conflict: the account has changed meanwhile.
            Throttled, Overloaded: not now.
        """
        caller.require_account_management("accounts:write")
        _require_changeable(caller, update)
        async with self._store.snapshot() as snapshot:
            account = await get_for_caller(snapshot, caller, update.account_id)
            _, declared = await get_accounts_keyspace(snapshot, account.keyspace)
        password = await self._prove_and_hash(caller, account, update, declared)

        async def work(transaction: Transaction, asking: Caller) -> Effect[ChangedAccount]:
            asking.require_account_management("accounts:write")
            before = await get_for_caller(transaction, asking, update.account_id)
            if before.password != account.password:
                # What was proved and hashed before the transaction no longer counts.
                raise Conflict.moved_on("the account", before.revision)
            return await self._update(transaction, asking, before, update, password)

        return await self._mutations.run(caller, work, restrictive=update.sets_password)

    async def _prove_and_hash(
        self, caller: Caller, account: Account, update: AccountUpdate, declared: AccountsDeclaration
    ) -> PasswordHash | None:
        """The new password's hash, if there is one, once the caller may set it."""
        chosen = None
        if update.sets_password:
            email = account.email
            if "email" in update.fields:
                email = read_email("account.email", update.email)
            chosen = read_new_password("new_password", update.new_password, declared, email)
        must_prove = caller.own_account is not None and (
            chosen is not None or "email" in update.fields
        )
        if chosen is None and not must_prove:
            return None
        with self._hashes.turn():
            if must_prove:
                await self._prove(caller, account, update.current_password)
            if caller.own_account is not None and "email" in update.fields:
                await self._attempts.count_registration(account.keyspace, caller.call.address)
            return await self._hashes.hash(chosen) if chosen is not None else None

    async def _prove(self, caller: Caller, account: Account, password: Plaintext) -> None:
        rejected = Forbidden(
            "to change the e-mail address or the password, give the account's current password",
            reason="PASSWORD_REJECTED",
        )
        if not password.reveal():
            raise rejected
        given = read_password("current_password", password)
        async with self._attempts.of_password(
            account.keyspace, account.email.identity, caller.call.address
        ) as attempt:
            if not await self._hashes.verify(given, account.password):
                raise rejected
            attempt.succeeded = True

    async def _update(
        self,
        transaction: Transaction,
        caller: Caller,
        before: Account,
        update: AccountUpdate,
        password: PasswordHash | None,
    ) -> Effect[ChangedAccount]:
        account = replace(
            before, **{name: _READERS[name](update) for name in sorted(update.fields)}
        )
        if password is not None:
            account = replace(account, password=password)
        if account == before:
            # Also at another revision: a call whose answer was lost may be made again.
            return Effect(ChangedAccount(before))
        if update.if_revision not in (0, before.revision):
            raise Conflict.moved_on("the account", before.revision)
        now = self._clock.now()
        account = replace(account, update_time=now)
        await require_email_is_free(transaction, account)
        await transaction.update_account(account)
        revoked = 0
        if password is not None:
            # A session that was begun with the old password must not stay.
            own = caller.credential_id if isinstance(caller, AccountSession) else None
            await transaction.end_sessions(account.account_id, now, but=own)
            revoked = await Ending(transaction, account, now).revoke_keys(
                lambda session: session != own, on_demand=update.revoke_keys
            )
        changed = sorted({*update.fields, *(["password"] if password else [])})
        return Effect(
            ChangedAccount(replace(account, revision=transaction.revision), revoked),
            (account_change(account),),
            account_event("account.update", caller, account, now, revoked, fields=changed),
        )


def _require_changeable(caller: Caller, update: AccountUpdate) -> None:
    if update.fields or not update.sets_password:
        require_changeable(update.fields, _READERS.keys())
    if update.revoke_keys and not update.sets_password:
        raise InvalidInput.field(
            "revoke_keys", "needs new_password; to end sessions alone, call LogOut"
        )
    if not caller.is_operator and not _OWNERS.issuperset(update.fields):
        raise InvalidInput.field(
            "update_mask", f"an account can change only its {' and '.join(sorted(_OWNERS))}"
        )


_READERS: Final[Mapping[str, Callable[[AccountUpdate], Any]]] = {
    "email": lambda update: read_email("account.email", update.email),
    "display_name": lambda update: read_account_display_name(
        "account.display_name", update.display_name
    ),
    "plan": lambda update: read_plan("account.plan", update.plan),
    "labels": lambda update: read_labels(update.labels),
}
"""How the new value of each field is read."""
# The rest is for the product to decide, which may rest decisions of its own on it.
_OWNERS: Final = frozenset({"email", "display_name"})
