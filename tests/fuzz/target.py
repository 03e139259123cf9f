"""The server under the fuzzer: two tenants, and a credential of each kind for one of them.

The attacker's credentials reach the keyspace `mine` alone. The keyspace `theirs` has names that
stand nowhere else, so an answer that holds one of them has told the attacker of another tenant.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from keyfence.v1 import key_service_pb2 as keys
from keyfence.v1 import keyspace_pb2
from support.serving import PASSWORD, Client

MINE: Final = "mine"
THEIRS: Final = "theirs"
THEIR_SCOPE: Final = "victimscope:read"
MARKERS: Final = ("acct_victim_7f3a", "victim-display-9c1e", THEIR_SCOPE, "victim-label-55d0")
"""What the other tenant's records hold, and no request of the attacker."""


@dataclass
class Target:
    """What the fuzzer knows of the server.

    Attributes:
        credentials: the attacker's, by kind; an empty text for none.
        values: for string fields, by the field's name.
        dead_keys: plaintexts that no check may ever accept.
        their_ids: ids of the other tenant, which an attacker may have learned elsewhere.
        their_key: the other tenant's key. Every change of it is a fault.
    """

    client: Client
    credentials: dict[str, str] = field(default_factory=dict)
    values: dict[str, list[str]] = field(default_factory=dict)
    dead_keys: list[str] = field(default_factory=list)
    their_ids: tuple[str, ...] = ()
    their_key: str = ""

    async def their_record(self) -> keys.Key:
        """The other tenant's key as it is now."""
        found = await self.client.call("GetKey", key_id=self.their_ids[0])
        record: keys.Key = found.key
        return record

    async def renew_credentials(self) -> None:
        """Makes those of the attacker's credentials anew that do not pass any more, since the
        fuzzer may revoke its own."""
        for kind, make in _MAKERS.items():
            known = self.credentials.get(kind)
            if known is None or not await _passes(self.client, known):
                self.credentials[kind] = await make(self.client)


async def prepare(client: Client) -> Target:
    """Sets up both tenants."""
    await apply(client, MINE, ["mine:read", "mine:write"])
    await apply(client, THEIRS, [THEIR_SCOPE])
    theirs = await client.make_key(
        THEIRS,
        MARKERS[0],
        scopes=[THEIR_SCOPE],
        display_name=MARKERS[1],
        labels={"team": MARKERS[3]},
    )
    dead = []
    for _ in range(3):
        made = await client.make_key(MINE, "acct_1", scopes=["mine:write"])
        await client.call("RevokeKey", key_id=made.key.key_id)
        dead.append(made.api_key)
    living = await client.make_key(MINE, "acct_1", scopes=["mine:write"])
    spare = await client.make_key(MINE, "acct_1", scopes=["mine:read"])
    account = await client.register(email="fuzz@example.com", keyspace=MINE)
    page = await client.call("ListKeys", keyspace=MINE, page_size=1)
    target = Target(client)
    target.dead_keys = dead
    target.their_ids = (theirs.key.key_id,)
    target.their_key = theirs.api_key
    key_ids = [living.key.key_id, spare.key.key_id, theirs.key.key_id]
    api_keys = [living.api_key, theirs.api_key, client.root[:20], *dead]
    keyspaces = [MINE] * 6 + [THEIRS, "system"]
    target.values = {
        "keyspace": keyspaces,
        "name": keyspaces,
        "bound_keyspaces": keyspaces,
        "key_id": key_ids,
        "parent_key_id": ["", "", *key_ids],
        "api_key": api_keys,
        "required_scopes": ["mine:read", "mine:write", "mine:*", "victimscope:x"],
        "scopes": ["mine:read", "mine:write", "mine:*", "*"],
        "granted_scopes": ["mine:read", "mine:write", "mine:*", "*"],
        "scope": ["mine:read", "mine:write", "none:such"],
        "account_id": ["acct_1", "acct_1", account.account_id],
        "page_token": ["", "", page.next_page_token],
        "email": ["fuzz@example.com", "other@example.com"],
        "password": [PASSWORD],
        "client_address": ["", "192.0.2.1", "::1"],
        "allowed_addresses": ["127.0.0.0/8", "192.0.2.1", "::/0"],
        "environment": ["", "live"],
        "key_type": ["", "secret", "plain"],
        "preset": [""],
        "display_name": ["Default", "a name"],
        "request_id": ["", "request-1", "request-2"],
        "filter": [""],
        "holder_id": ["fuzzing-holder-0001"],
        "session_id": [""],
    }
    await target.renew_credentials()
    return target


async def apply(client: Client, name: str, scopes: Sequence[str]) -> None:
    """Applies a keyspace with these scopes, whose accounts register themselves."""
    await client.apply(
        name,
        scopes=[keyspace_pb2.Scope(name=scope) for scope in scopes],
        key_types=[
            keyspace_pb2.KeyType(name="secret", manages_keys=True),
            keyspace_pb2.KeyType(name="plain"),
        ],
        accounts={"registration": "REGISTRATION_OPEN"},
    )


async def _operator(client: Client) -> str:
    scopes = ("keys:*", "keyspaces:*", "accounts:*", "replication:*", "audit:read")
    return await client.make_operator(*scopes, bound=[MINE])


async def _checker(client: Client) -> str:
    return await client.make_operator("keys:check", bound=[MINE])


async def _sidecar(client: Client) -> str:
    return await client.make_operator("replication:sync", bound=[MINE])


async def _manager(client: Client) -> str:
    made = await client.make_key(MINE, "acct_1", scopes=["mine:write"], key_type="secret")
    return str(made.api_key)


async def _plain(client: Client) -> str:
    made = await client.make_key(MINE, "acct_1", scopes=["mine:read"], key_type="plain")
    return str(made.api_key)


async def _session(client: Client) -> str:
    # An account of its own each time, since requests may have disabled the one before.
    email = f"{secrets.token_hex(8)}@example.com"
    await client.call("RegisterAccount", keyspace=MINE, email=email, password=PASSWORD)
    return await client.log_in(email=email, keyspace=MINE)


_MAKERS: Final[Mapping[str, Any]] = {
    "operator": _operator,
    "checker": _checker,
    "sidecar": _sidecar,
    "manager": _manager,
    "plain": _plain,
    "session": _session,
}


async def _passes(client: Client, credential: str) -> bool:
    try:
        await client.call("WhoAmI", credential=credential)
    except grpc.aio.AioRpcError:
        return False
    return True
