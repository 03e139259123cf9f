"""Kinds of keys, and what becomes of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration

from keyfence import AsyncClient, KeyState, RateLimit
from keyfence.v1 import keyspace_pb2, rate_limit_pb2
from keyfence_server.domain.formats import checksum
from support.serving import PASSWORD

REACHED: Final = ("main", "counted", "counted-by-account")
"""The keyspaces that the asking credential is bound to. There is one more, "foreign"."""


def keyspace(name: str = "main", *, implies: bool = True) -> keyspace_pb2.Keyspace:
    """A keyspace with vps:create → vps:write → vps:read, or without the last implication."""
    plenty = rate_limit_pb2.RateLimit(requests=1_000_000, window=Duration(seconds=86_400))
    limits = {
        "counted": keyspace_pb2.Limits(per_key=plenty),
        "counted-by-account": keyspace_pb2.Limits(per_account=plenty),
    }
    return keyspace_pb2.Keyspace(
        name=name,
        scopes=[
            keyspace_pb2.Scope(name="vps:read"),
            keyspace_pb2.Scope(name="vps:write", implies=["vps:read"] if implies else []),
            keyspace_pb2.Scope(name="vps:create", implies=["vps:write"]),
        ],
        key_types=[
            keyspace_pb2.KeyType(name="secret"),
            keyspace_pb2.KeyType(name="publishable", scope_cap=["vps:read"]),
        ],
        environments=[
            keyspace_pb2.Environment(name="live"),
            keyspace_pb2.Environment(name="test"),
        ],
        defaults=keyspace_pb2.KeyDefaults(key_type="secret", environment="live"),
        limits=limits.get(name),
        accounts=keyspace_pb2.Accounts(),
    )


@dataclass(frozen=True)
class Subject:
    """A key, or a text that is none.

    Attributes:
        key_id: empty for what is no key.
        parent_id: of the key that it was delegated from; empty for none.
        account_id: of the registered account whose key it is; empty for none.
        is_limited: whether a rate limit can be set.
        usual, wide, narrow: what can be granted to it.
    """

    api_key: str
    key_id: str = ""
    parent_id: str = ""
    account_id: str = ""
    is_limited: bool = True
    usual: str = "vps:write"
    wide: str = "vps:create"
    narrow: str = "vps:read"


Make = Callable[[AsyncClient], Awaitable[Subject]]


def key(*grants: str, **fields: Any) -> Make:
    """A key with these fields, to which the usual can be granted or these three."""

    async def make(client: AsyncClient) -> Subject:
        usual, wide, narrow = grants or ("vps:write", "vps:create", "vps:read")
        wanted = {"keyspace": "main", "account_id": "acme", "scopes": [usual], **fields}
        made = await client.create_key(**wanted)
        return Subject(
            made.api_key,
            made.key.key_id,
            is_limited=made.key.keyspace != "system",
            usual=usual,
            wide=wide,
            narrow=narrow,
        )

    return make


def text(value: str) -> Make:
    """No key."""

    async def make(_: AsyncClient) -> Subject:
        return Subject(value)

    return make


async def delegated(client: AsyncClient) -> Subject:
    """A key from another key."""
    above = await client.create_key(keyspace="main", account_id="acme", scopes=["vps:create"])
    made = await client.create_key(
        keyspace="main", scopes=["vps:write"], account_id="acme", parent_key_id=above.key.key_id
    )
    return Subject(made.api_key, made.key.key_id, parent_id=above.key.key_id)


async def of_a_registered_account(client: AsyncClient) -> Subject:
    """A key of an account that can be disabled."""
    account = (await client.register_account("main", "anna@example.com", PASSWORD)).account
    made = await client.create_key(
        keyspace="main", account_id=account.account_id, scopes=["vps:write"]
    )
    return Subject(made.api_key, made.key.key_id, account_id=account.account_id)


async def rotated(client: AsyncClient) -> Subject:
    """A key that has a successor, and still works."""
    old = await key()(client)
    await client.rotate_key(old.key_id, overlap=timedelta(hours=1))
    return old


async def successor(client: AsyncClient) -> Subject:
    """The successor of another one that still works."""
    old = await key()(client)
    new = await client.rotate_key(old.key_id, overlap=timedelta(hours=1))
    return Subject(new.api_key, new.key.key_id)


async def unknown(client: AsyncClient) -> Subject:
    """What looks like a key in every respect."""
    body = _without_checksum(await key()(client))
    other = body[:-1] + ("a" if body[-1] != "a" else "b")
    return Subject(other + checksum(other))


async def wrong_checksum(client: AsyncClient) -> Subject:
    """A key with a mistake in it."""
    body = _without_checksum(await key()(client))
    return Subject(body + checksum(body[:-1]))


def _without_checksum(subject: Subject) -> str:
    body = subject.api_key[:-6]
    assert subject.api_key == body + checksum(body)
    return body


KINDS: Final[Mapping[str, Make]] = {
    "plain": key(),
    "delegated": delegated,
    "of a registered account": of_a_registered_account,
    "with an allow-list": key(allowed_addresses=["10.0.0.0/8"]),
    "with a limit of its own": key(rate_limit=RateLimit(1_000_000, timedelta(days=1))),
    "with its keyspace's limit": key(keyspace="counted"),
    "with its account's limit": key(keyspace="counted-by-account"),
    "expiring": key(expire_time=datetime(2100, 1, 1, tzinfo=UTC)),
    "publishable": key("vps:read", "vps:read", "vps:read", key_type="publishable"),
    "of another environment": key(environment="test", labels={"team": "blue"}),
    "rotated": rotated,
    "successor": successor,
    "an operator's": key(
        "keys:read", "keys:*", "keyspaces:read", keyspace="system", bound_keyspaces=["main"]
    ),
    "out of reach": key(keyspace="foreign"),
    "unknown": unknown,
    "malformed": text("no key"),
    "not ASCII": text("ключ"),
    "missing": text(""),
    "with a wrong checksum": wrong_checksum,
}

Mutation = Callable[[AsyncClient, Subject], Awaitable[object]]


def update(**fields: Any) -> Mutation:
    """Changes the key's record."""
    return lambda client, subject: client.update_key(subject.key_id, **fields)


MUTATIONS: Final[Mapping[str, Mutation]] = {
    "widen": lambda client, subject: client.update_key(
        subject.key_id, granted_scopes=[subject.wide]
    ),
    "narrow": lambda client, subject: client.update_key(
        subject.key_id, granted_scopes=[subject.narrow]
    ),
    "grant as before": lambda client, subject: client.update_key(
        subject.key_id, granted_scopes=[subject.usual]
    ),
    "expire sooner": update(expire_time=datetime(2099, 1, 1, tzinfo=UTC)),
    "allow from elsewhere": update(allowed_addresses=["11.0.0.0/8"]),
    "allow from anywhere": update(allowed_addresses=[]),
    "limit": update(rate_limit=RateLimit(2_000_000, timedelta(days=1))),
    "limit as the keyspace does": update(rate_limit=None),
    "disable": update(state=KeyState.DISABLED),
    "enable": update(state=KeyState.ACTIVE),
    "narrow the keyspace": lambda client, _: client.apply_keyspace(keyspace(implies=False)),
    "widen the keyspace": lambda client, _: client.apply_keyspace(keyspace()),
    "disable the account": lambda client, subject: client.disable_account(subject.account_id),
    "enable the account": lambda client, subject: client.enable_account(subject.account_id),
    "disable the parent": lambda client, subject: client.update_key(
        subject.parent_id, state=KeyState.DISABLED
    ),
    "enable the parent": lambda client, subject: client.update_key(
        subject.parent_id, state=KeyState.ACTIVE
    ),
    "revoke the parent": lambda client, subject: client.revoke_key(subject.parent_id),
    "revoke": lambda client, subject: client.revoke_key(subject.key_id),
}
"""In the order in which they are made, one on top of the other."""


def happens_to(subject: Subject, mutation: str) -> bool:
    """Whether there is something to be changed in this way."""
    if mutation.endswith("the account"):
        return bool(subject.account_id)
    if mutation.endswith("the parent"):
        return bool(subject.parent_id)
    if mutation.startswith("limit"):
        return bool(subject.key_id) and subject.is_limited
    return bool(subject.key_id)
