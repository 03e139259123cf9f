"""Logging in while other things happen: a password that changes meanwhile, hashes that are
renewed, attempts that come all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from application.authority import ACME, Authority, refused
from keyfence_server.adapters.rate_limits.memory import MemoryCounter
from keyfence_server.adapters.session_tokens import JwtSessionTokens, SessionKeys
from keyfence_server.application.callers import AccountSession, Anonymous
from keyfence_server.application.calls import Call
from keyfence_server.application.disable_account import DisableAccount
from keyfence_server.application.identify import Callers
from keyfence_server.application.log_in import LoggedIn, LogIn
from keyfence_server.application.log_in_attempts import PER_ACCOUNT_AND_ADDRESS, LogInAttempts
from keyfence_server.application.log_out import LogOut
from keyfence_server.application.presented_keys import PresentedKeys
from keyfence_server.application.presented_sessions import PresentedSessions
from keyfence_server.application.rate_limits import RateLimits
from keyfence_server.application.register_account import NewAccount, RegisterAccount
from keyfence_server.application.update_account import AccountUpdate, UpdateAccount
from keyfence_server.domain.accounts import Account, PasswordHash
from keyfence_server.domain.declarations import AccountsDeclaration, Registration
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
    callers: Callers
    registering: RegisterAccount
    logging_in: LogIn
    logging_out: LogOut
    updating: UpdateAccount

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


@pytest.fixture
async def accounts(authority: Authority) -> Accounts:
    await authority.declare(ACME, accounts=AccountsDeclaration(registration=Registration.OPEN))
    store, cache, clock = authority.store, authority.cache, authority.clock
    hashes, mutations = PlainHashes(), authority.mutations
    attempts = LogInAttempts(RateLimits(clock, MemoryCounter(clock), is_alone=True), clock)
    tokens = JwtSessionTokens(SessionKeys({1: b"s" * 32}))
    peppers = Peppers({1: b"a pepper for tests, of 32 bytes or more"})
    sessions = PresentedSessions(cache, tokens)
    return Accounts(
        authority,
        hashes,
        Callers(PresentedKeys(cache, peppers), clock, sessions),
        RegisterAccount(cache, mutations, hashes, attempts, clock),
        LogIn(store, cache, mutations, hashes, attempts, tokens, clock),
        LogOut(mutations, clock),
        UpdateAccount(store, mutations, hashes, attempts, clock),
    )


async def test_a_password_that_changes_while_it_is_checked_does_not_count(
    accounts: Accounts,
) -> None:
    """Else whoever has the old one could slip in beside its owner's changing it."""
    account = await accounts.register()
    accounts.hashes.gate = asyncio.Event()
    slow = asyncio.create_task(accounts.log_in())
    await accounts.hashes.arrived.wait()
    update = AccountUpdate(
        account_id=account.account_id, new_password=Plaintext("another good one")
    )
    await accounts.updating.update(accounts.authority.root, update)
    accounts.hashes.gate.set()
    with refused("LOG_IN_FAILED"):
        await slow


async def test_an_account_disabled_while_its_password_is_checked_stays_out(
    accounts: Accounts,
) -> None:
    account = await accounts.register()
    accounts.hashes.gate = asyncio.Event()
    slow = asyncio.create_task(accounts.log_in())
    await accounts.hashes.arrived.wait()
    disabling = DisableAccount(accounts.authority.mutations, accounts.authority.clock)
    await disabling.disable(accounts.authority.root, account.account_id)
    accounts.hashes.gate.set()
    with refused("ACCOUNT_IS_DISABLED"):
        await slow


async def test_a_hash_is_renewed_at_the_next_log_in_and_once(accounts: Accounts) -> None:
    account = await accounts.register()
    await accounts.log_in()
    assert (await accounts.stored(account)).password.text.startswith("kept:")
    accounts.hashes.outdated = True
    with refused("LOG_IN_FAILED"):
        await accounts.log_in(Plaintext("wrong"))
    assert (await accounts.stored(account)).password.text.startswith("kept:")
    await accounts.log_in()
    renewed = await accounts.stored(account)
    assert renewed.password.text.startswith("new:")
    await accounts.log_in()
    assert (await accounts.stored(account)).revision == renewed.revision
    assert replace(renewed, password=account.password, revision=account.revision) == account


async def test_many_tries_at_once_are_no_more_than_one_after_the_other(
    accounts: Accounts,
) -> None:
    await accounts.register()
    accounts.hashes.gate = asyncio.Event()
    limit = PER_ACCOUNT_AND_ADDRESS.requests
    tries = [
        asyncio.create_task(accounts.log_in(Plaintext(f"guess {n}"))) for n in range(limit * 3)
    ]
    for _, stopped in zip(range(limit * 2), asyncio.as_completed(tries), strict=False):
        with refused("TOO_MANY_ATTEMPTS"):
            await stopped
    accounts.hashes.gate.set()
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    reasons = [getattr(one, "reason", None) for one in outcomes]
    assert reasons.count("LOG_IN_FAILED") == limit
    assert accounts.hashes.verifying == limit


async def test_log_ins_that_succeed_cost_nothing(accounts: Accounts) -> None:
    await accounts.register()
    for _ in range(PER_ACCOUNT_AND_ADDRESS.requests * 2):
        await accounts.log_in()


async def test_a_session_that_ends_while_it_makes_a_key_makes_none(accounts: Accounts) -> None:
    """Making reads the session from the store, in the transaction."""
    await accounts.register()
    token = (await accounts.log_in()).token.reveal()
    first, second = [await accounts.callers.identify(token) for _ in range(2)]
    assert isinstance(first, AccountSession)
    await accounts.logging_out.log_out(first)
    with refused("CREDENTIAL_REJECTED"):
        await accounts.authority.make(second)


async def test_a_session_makes_keys_until_its_time_is_up(accounts: Accounts) -> None:
    await accounts.register()
    caller = await accounts.callers.identify((await accounts.log_in()).token.reveal())
    made = await accounts.authority.make(caller, scopes=["*"])
    assert made.facts.key.expire_time is None
    accounts.authority.clock.advance(timedelta(hours=24))
    with refused("CREDENTIAL_REJECTED"):
        await accounts.authority.make(caller)
