"""Registering an account.

A registration tells whether an e-mail address is taken: without sending mail, the answer cannot
hide that no account was made. So a failed registration costs as much work as a successful one, and
each client address may register only so often an hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from keyfence_server.application.account_inputs import (
    get_accounts_keyspace,
    read_account_display_name,
    read_email,
    read_new_password,
    read_plan,
)
from keyfence_server.application.audit import account_event
from keyfence_server.application.callers import Caller
from keyfence_server.application.key_inputs import read_labels
from keyfence_server.application.log_in_attempts import LogInAttempts
from keyfence_server.application.mutations import Done, Effect, Mutations
from keyfence_server.application.ports import (
    Change,
    ChangeKind,
    Clock,
    FactSource,
    PasswordHashes,
    Transaction,
)
from keyfence_server.domain.accounts import Account, PasswordHash
from keyfence_server.domain.declarations import AccountsDeclaration, Registration
from keyfence_server.domain.errors import AlreadyDone, Forbidden, InvalidInput
from keyfence_server.domain.identifiers import new_account_id
from keyfence_server.domain.secrets import Plaintext


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAccount:
    """The wanted properties of an account. Fields and defaults as in `RegisterAccountRequest`."""

    keyspace: str
    email: str
    password: Plaintext
    display_name: str = ""
    plan: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RegisterAccount:
    """Makes accounts: for operators, and for any caller where the keyspace allows it."""

    _source: FactSource
    _mutations: Mutations
    _hashes: PasswordHashes
    _attempts: LogInAttempts
    _clock: Clock

    async def register(self, caller: Caller, wanted: NewAccount) -> Done[Account]:
        """Makes an account.

        Raises:
            InvalidInput: the account cannot be as wanted.
            Forbidden: the caller may not make it, or not so.
            NotFound: there is no such keyspace with accounts.
            AlreadyDone: another account has the address.
            Throttled, Overloaded: try again later.
        """
        keyspace, declared = await get_accounts_keyspace(self._source, wanted.keyspace)
        _require_may_register(caller, keyspace.name, declared)
        account = self._account(caller, wanted, declared)
        password = read_new_password("password", wanted.password, declared, account.email)
        with self._hashes.turn():
            if not caller.is_operator:
                await self._attempts.count_registration(keyspace.name, caller.call.address)
            account = replace(account, password=await self._hashes.hash(password))

        async def work(transaction: Transaction, maker: Caller) -> Effect[Account]:
            _, declared = await get_accounts_keyspace(transaction, keyspace.name)
            _require_may_register(maker, keyspace.name, declared)
            await require_email_is_free(transaction, account)
            await transaction.insert_account(account)
            return Effect(
                replace(account, revision=transaction.revision),
                (Change(ChangeKind.ACCOUNT, account.account_id, keyspace.name, created=True),),
                account_event("account.register", maker, account, account.create_time),
            )

        return await self._mutations.run(caller, work)

    def _account(
        self, caller: Caller, wanted: NewAccount, declared: AccountsDeclaration
    ) -> Account:
        for name in ("plan", "labels"):
            if getattr(wanted, name) and not caller.is_operator:
                raise InvalidInput.field(name, "can only be set by an operator")
        now = self._clock.now()
        return Account(
            account_id=new_account_id(now),
            keyspace=wanted.keyspace,
            email=read_email("email", wanted.email),
            display_name=read_account_display_name("display_name", wanted.display_name),
            password=PasswordHash("", 0),
            create_time=now,
            update_time=now,
            plan=read_plan("plan", wanted.plan or declared.default_plan),
            labels=read_labels(wanted.labels),
        )


async def require_email_is_free(transaction: Transaction, account: Account) -> None:
    """Raises `AlreadyDone` if another account of the keyspace has the account's address."""
    found = await transaction.find_account_by_email(account.keyspace, account.email.identity)
    if found is not None and found.account_id != account.account_id:
        raise AlreadyDone("another account has this e-mail address", reason="EMAIL_TAKEN")


def _require_may_register(caller: Caller, keyspace: str, declared: AccountsDeclaration) -> None:
    if caller.is_operator:
        caller.require_scope("accounts:write")
        caller.require_reach(keyspace)
    elif declared.registration is not Registration.OPEN:
        raise Forbidden(
            f'in keyspace "{keyspace}" only operators can register accounts',
            reason="REGISTRATION_CLOSED",
            keyspace=keyspace,
        )
