"""The use cases of accounts and sessions, over an authority."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from application.authority import Authority
from keyfence_server.adapters.rate_limits.memory import MemoryCounter
from keyfence_server.adapters.session_tokens import JwtSessionTokens, SessionKeys
from keyfence_server.application.callers import AccountSession, Anonymous
from keyfence_server.application.calls import Call
from keyfence_server.application.disable_account import DisableAccount
from keyfence_server.application.identify_caller import IdentifyCaller
from keyfence_server.application.log_in import LoggedIn, LogIn
from keyfence_server.application.log_in_attempts import LogInAttempts
from keyfence_server.application.log_out import LogOut
from keyfence_server.application.presented_keys import PresentedKeys
from keyfence_server.application.presented_sessions import PresentedSessions
from keyfence_server.application.rate_limits import RateLimits
from keyfence_server.application.register_account import NewAccount, RegisterAccount
from keyfence_server.application.update_account import UpdateAccount
from keyfence_server.domain.accounts import Account, PasswordHash
from keyfence_server.domain.secrets import Peppers, Plaintext

EMAIL = "anna@example.com"
PASSWORD = Plaintext("correct horse battery")
ELSEWHERE = Anonymous(call=Call(address="192.0.2.1"))


class PlainHashes:
    """Keeps the `PasswordHashes` port without hashing, and waits where a test says so."""

    def __init__(self) -> None:
        self.outdated = False
        self.gate: asyncio.Event | None = None
        self.verifying = 0
        self.arrived = asyncio.Event()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """See the port."""
        yield

    async def hash(self, password: Plaintext) -> PasswordHash:
        """See the port."""
        return PasswordHash(f"{'new' if self.outdated else 'kept'}:{password.reveal()}", 1)

    async def verify(self, password: Plaintext, kept: PasswordHash | None) -> bool:
        """See the port."""
        self.verifying += 1
        self.arrived.set()
        if self.gate is not None:
            await self.gate.wait()
        return kept is not None and kept.text.partition(":")[2] == password.reveal()

    def is_outdated(self, kept: PasswordHash) -> bool:
        """See the port."""
        return self.outdated and not kept.text.startswith("new:")


@dataclass
class Accounts:
    """The use cases of accounts, over an authority."""

    authority: Authority
    hashes: PlainHashes
    callers: IdentifyCaller
    registering: RegisterAccount
    logging_in: LogIn
    logging_out: LogOut
    updating: UpdateAccount
    disabling: DisableAccount

    async def register(self) -> Account:
        """Registers the one account."""
        wanted = NewAccount(keyspace="acme", email=EMAIL, password=PASSWORD)
        return (await self.registering.register(ELSEWHERE, wanted)).value

    async def log_in(self, password: Plaintext = PASSWORD) -> LoggedIn:
        """Logs in to it."""
        return (await self.logging_in.log_in(ELSEWHERE, "acme", EMAIL, password)).value

    async def stored(self, account: Account) -> Account:
        """The record, straight from the store."""
        async with self.authority.store.snapshot() as snapshot:
            found = await snapshot.find_account(account.account_id)
        assert found is not None
        return found

    async def session(self) -> AccountSession:
        """Logs in to it, and acts in the session."""
        caller = await self.callers.identify((await self.log_in()).token.reveal())
        assert isinstance(caller, AccountSession)
        return caller


def accounts_of(authority: Authority) -> Accounts:
    """The use cases. The keyspace must have accounts that anyone can register."""
    store, cache, clock = authority.store, authority.cache, authority.clock
    hashes, mutations = PlainHashes(), authority.mutations
    attempts = LogInAttempts(RateLimits(clock, MemoryCounter(clock), is_alone=True), clock)
    tokens = JwtSessionTokens(SessionKeys({1: b"s" * 32}))
    peppers = Peppers({1: b"a pepper for tests, of 32 bytes or more"})
    sessions = PresentedSessions(cache, tokens)
    notes = authority.notes
    return Accounts(
        authority,
        hashes,
        IdentifyCaller(PresentedKeys(cache, peppers), clock, notes, sessions),
        RegisterAccount(cache, mutations, hashes, attempts, clock),
        LogIn(store, cache, mutations, hashes, attempts, tokens, clock, notes),
        LogOut(mutations, clock),
        UpdateAccount(store, mutations, hashes, attempts, clock),
        DisableAccount(mutations, clock),
    )
