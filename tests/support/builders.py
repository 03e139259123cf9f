"""Records for tests: each valid as it stands, with whatever the test is about said by name."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from keyfence_server.application.ports import AuditEvent, Change, ChangeKind, Store, Transaction
from keyfence_server.domain.accounts import Account, AccountId, Email, PasswordHash
from keyfence_server.domain.declarations import KeyspaceDeclaration, ScopeDeclaration
from keyfence_server.domain.keys import Key, KeyId
from keyfence_server.domain.keyspaces import Keyspace, compile_keyspace, with_history
from keyfence_server.domain.secrets import Digest
from keyfence_server.domain.sessions import Session, SessionId
from support.clock import START

KEYSPACE: Final = "demo"
_numbers = itertools.count(1)
T = TypeVar("T")


def digest_of(text: str, pepper_version: int = 1) -> Digest:
    """A digest as good as any, the same for the same text."""
    return Digest(hashlib.sha256(text.encode()).digest(), pepper_version)


def make_key(key_id: str | None = None, **fields: Any) -> Key:
    """An active key of account "acme", with a new id and its own digest if none is given."""
    identity = f"key_{next(_numbers):026d}" if key_id is None else key_id
    defaults: dict[str, Any] = {
        "keyspace": KEYSPACE,
        "account_id": "acme",
        "display_name": "Default",
        "key_type": "secret",
        "environment": "live",
        "granted_scopes": ("vps:read",),
        "digest": digest_of(identity),
        "display_prefix": "kf_live_abc123",
        "create_time": START,
        "update_time": START,
    }
    return Key(key_id=KeyId(identity), **{**defaults, **fields})


def make_keyspace(name: str = KEYSPACE, *, time: datetime = START, **fields: Any) -> Keyspace:
    """A keyspace with two scopes, in which `make_key` makes its keys."""
    scopes = (
        ScopeDeclaration(name="vps:read"),
        ScopeDeclaration(name="vps:write", implies=("vps:read",)),
    )
    declaration = KeyspaceDeclaration(name=name, **{"scopes": scopes, **fields})
    return with_history(compile_keyspace(declaration), create_time=time, update_time=time)


def make_event(subject: str, **fields: Any) -> AuditEvent:
    """The audit event of a key's creation at first start, with a new id."""
    event = AuditEvent(
        event_id=f"evt_{next(_numbers):026d}",
        time=START,
        action="key.create",
        actor_key_id=None,
        keyspace=KEYSPACE,
        account_id="acme",
        subject=subject,
        request_id=None,
    )
    return replace(event, **fields)


def key_change(key: Key, *, created: bool = False) -> Change:
    """That this key is no longer as it was."""
    return Change(ChangeKind.KEY, key.key_id, key.keyspace, created=created)


def make_account(account_id: str | None = None, **fields: Any) -> Account:
    """An active account with a new id and address if none are given."""
    number = next(_numbers)
    identity = f"usr_{number:026d}" if account_id is None else account_id
    defaults: dict[str, Any] = {
        "keyspace": KEYSPACE,
        "email": Email(f"a{number}@example.com"),
        "display_name": "",
        "password": PasswordHash("$argon2id$", 1),
        "create_time": START,
        "update_time": START,
    }
    return Account(account_id=AccountId(identity), **{**defaults, **fields})


def make_session(account: Account, session_id: str | None = None, **fields: Any) -> Session:
    """A session of the account that lasts an hour, with a new id if none is given."""
    identity = f"ses_{next(_numbers):026d}" if session_id is None else session_id
    defaults: dict[str, Any] = {
        "account_id": account.account_id,
        "keyspace": account.keyspace,
        "create_time": START,
        "expire_time": START + timedelta(hours=1),
    }
    return Session(session_id=SessionId(identity), **{**defaults, **fields})


async def commit_one(transaction: Transaction, changes: Sequence[Change], event: AuditEvent) -> int:
    """Commits the only mutation of a transaction, and returns its revision."""
    transaction.keep(changes, event)
    return await transaction.commit()


async def insert_accounts(store: Store, *accounts: Account) -> int:
    """Puts accounts into the store by one mutation, and tells its revision."""
    changes = [account_change(one, created=True) for one in accounts]
    event = make_event(accounts[0].account_id, action="account.register")
    return await _write(store, lambda on, one: on.insert_account(one), accounts, changes, event)


async def update_accounts(store: Store, *accounts: Account) -> int:
    """Replaces accounts in the store by one mutation, and tells its revision."""
    changes = [account_change(one) for one in accounts]
    event = make_event(accounts[0].account_id, action="account.update")
    return await _write(store, lambda on, one: on.update_account(one), accounts, changes, event)


async def insert_sessions(store: Store, *sessions: Session) -> int:
    """Puts sessions into the store by one mutation, and tells its revision."""
    changes = [
        Change(ChangeKind.SESSION, one.session_id, one.keyspace, created=True) for one in sessions
    ]
    event = make_event(sessions[0].session_id, action="account.log_in")
    return await _write(store, lambda on, one: on.insert_session(one), sessions, changes, event)


def account_change(account: Account, *, created: bool = False) -> Change:
    """That this account is no longer as it was."""
    return Change(ChangeKind.ACCOUNT, account.account_id, account.keyspace, created=created)


async def insert_keys(store: Store, *keys: Key) -> int:
    """Puts keys into the store by one mutation, and tells its revision."""
    changes = [key_change(one, created=True) for one in keys]
    event = make_event(keys[0].key_id)
    return await _write(store, lambda on, one: on.insert_key(one), keys, changes, event)


async def update_keys(store: Store, *keys: Key) -> int:
    """Replaces keys in the store by one mutation, and tells its revision."""
    changes = [key_change(one) for one in keys]
    event = make_event(keys[0].key_id, action="key.update")
    return await _write(store, lambda on, one: on.update_key(one), keys, changes, event)


async def put_keyspaces(store: Store, *keyspaces: Keyspace) -> int:
    """Puts keyspaces into the store by one mutation, and tells its revision."""
    changes = [Change(ChangeKind.KEYSPACE, one.name, one.name) for one in keyspaces]
    event = make_event(keyspaces[0].name, action="keyspace.apply", account_id=None)
    return await _write(store, lambda on, one: on.put_keyspace(one), keyspaces, changes, event)


async def _write(
    store: Store,
    act: Callable[[Transaction, T], Awaitable[None]],
    items: Sequence[T],
    changes: Sequence[Change],
    event: AuditEvent,
) -> int:
    async with store.transaction() as transaction:
        for one in items:
            await act(transaction, one)
        return await commit_one(transaction, changes, event)
