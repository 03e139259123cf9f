"""Logging in: from an e-mail address and a password to a session.

An unknown address and a wrong password get the same answer and cost the same work. The password is
checked before the transaction, because the check takes long. So the transaction makes sure that the
password has not changed meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from keyfence_server.application.account_inputs import (
    get_accounts_keyspace,
    read_email,
    read_password,
)
from keyfence_server.application.audit import account_event
from keyfence_server.application.callers import Caller
from keyfence_server.application.failed_attempts import LOG_IN_ACTION, Attempt
from keyfence_server.application.log_in_attempts import LogInAttempts
from keyfence_server.application.mutations import Done, Effect, Mutations
from keyfence_server.application.ports import (
    Change,
    ChangeKind,
    Clock,
    FactSource,
    PasswordHashes,
    SessionTokens,
    Store,
    Transaction,
)
from keyfence_server.application.session_keys import Ending, account_change
from keyfence_server.application.write_behind import WriteBehind
from keyfence_server.domain.accounts import Account, Email, PasswordHash
from keyfence_server.domain.errors import DomainError, Precondition, Throttled, Unauthenticated
from keyfence_server.domain.identifiers import new_session_id
from keyfence_server.domain.secrets import Plaintext
from keyfence_server.domain.sessions import MAX_SESSIONS, Session


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A session that has begun, and the only copy of its token."""

    session: Session
    account: Account
    token: Plaintext


@dataclass(frozen=True, slots=True)
class LogIn:
    """Begins sessions."""

    _store: Store
    _source: FactSource
    _mutations: Mutations
    _hashes: PasswordHashes
    _attempts: LogInAttempts
    _tokens: SessionTokens | None
    _clock: Clock
    _notes: WriteBehind

    async def log_in(
        self, caller: Caller, keyspace: str, email: str, password: Plaintext
    ) -> Done[LoggedIn]:
        """Begins a session of the account with this address, if this is its password.

        Raises:
            InvalidInput: the address or the password cannot be any account's.
            NotFound: there is no such keyspace with accounts.
            Unauthenticated: no account has this address and this password.
            Precondition: the account is disabled, or sessions cannot be signed.
            Throttled, Overloaded: try again later.

        An account has at most `MAX_SESSIONS`: a log-in beyond them ends the oldest one.
        """
        await get_accounts_keyspace(self._source, keyspace)
        tokens = self._tokens
        if tokens is None:
            raise Precondition(
                "the server has no key to sign sessions with: set KEYFENCE_SESSION_KEY_FILE",
                reason="SESSIONS_NOT_SET_UP",
            )
        address = read_email("email", email)
        given = read_password("password", password)
        try:
            account, renewed = await self._prove(caller, keyspace, address, given)
        except Throttled as error:
            self._note(caller, error.reason, keyspace, None)
            raise

        async def work(transaction: Transaction, _: Caller) -> Effect[LoggedIn]:
            current = await transaction.find_account(account.account_id)
            if current is None or current.password != account.password:
                raise _failed()
            return await self._begin(transaction, caller, current, renewed, tokens)

        return await self._mutations.run(caller, work)

    async def _prove(
        self, caller: Caller, keyspace: str, email: Email, password: Plaintext
    ) -> tuple[Account, PasswordHash | None]:
        """The account with this password, and a new hash if the stored one is outdated."""
        with self._hashes.turn():
            async with self._attempts.of_password(
                keyspace, email.identity, caller.call.address
            ) as attempt:
                async with self._store.snapshot() as snapshot:
                    account = await snapshot.find_account_by_email(keyspace, email.identity)
                kept = account.password if account is not None else None
                matches = await self._hashes.verify(password, kept)
                if account is None or not matches:
                    self._note(caller, "LOG_IN_FAILED", keyspace, account)
                    raise _failed()
                attempt.succeeded = True
            if account.is_disabled:
                self._note(caller, "ACCOUNT_IS_DISABLED", keyspace, account)
            _require_enabled(account)
            outdated = self._hashes.is_outdated(account.password)
            return account, await self._hashes.hash(password) if outdated else None

    def _note(self, caller: Caller, reason: str, keyspace: str, account: Account | None) -> None:
        # The given address is not kept: it may be a password in the wrong place.
        account_id = account.account_id if account is not None else ""
        attempt = Attempt(
            keyspace, reason, account_id, account_id, caller.call.address, LOG_IN_ACTION
        )
        self._notes.attempts.note(attempt, caller.call.request_id)

    async def _begin(
        self,
        transaction: Transaction,
        caller: Caller,
        account: Account,
        renewed: PasswordHash | None,
        tokens: SessionTokens,
    ) -> Effect[LoggedIn]:
        _require_enabled(account)
        _, declared = await get_accounts_keyspace(transaction, account.keyspace)
        now = self._clock.now()
        session = Session(
            session_id=new_session_id(now),
            account_id=account.account_id,
            keyspace=account.keyspace,
            create_time=now,
            expire_time=now + declared.session_lifetime,
        )
        changes = [Change(ChangeKind.SESSION, session.session_id, session.keyspace, created=True)]
        ended = await transaction.end_oldest_sessions(
            account.account_id, now, keep=MAX_SESSIONS - 1
        )
        changes += [Change(ChangeKind.SESSION, one, session.keyspace) for one in ended]
        await transaction.insert_session(session)
        details: dict[str, object] = {"address": caller.call.address}
        revoked = 0
        if ended:
            details["ended_sessions"] = len(ended)
            revoked = await Ending(transaction, account, now).revoke_keys(ended.__contains__)
        if renewed is not None:
            account = replace(account, password=renewed, revision=transaction.revision)
            await transaction.update_account(account)
        if renewed is not None or revoked:
            changes.append(account_change(account))
        stored = replace(session, revision=transaction.revision)
        return Effect(
            LoggedIn(stored, account, tokens.sign(stored)),
            tuple(changes),
            account_event(
                "account.log_in", caller, account, now, revoked, session.session_id, **details
            ),
        )


def _failed() -> DomainError:
    return Unauthenticated(
        "no account has this e-mail address and this password",
        reason="LOG_IN_FAILED",
        cause="LOG_IN_FAILED",
    )


def _require_enabled(account: Account) -> None:
    if account.is_disabled:
        raise Precondition(
            "the account is disabled", reason="ACCOUNT_IS_DISABLED", account_id=account.account_id
        )
