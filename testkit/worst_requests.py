"""The most expensive request of each RPC that its limits allow, and a store to send it to.

The benchmark measures how long each one holds the server's event loop. A test counts what each
one does between two turns of it.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import Message

from keyfence.v1 import account_service_pb2 as accounts
from keyfence.v1 import audit_service_pb2 as audit
from keyfence.v1 import authorization_service_pb2 as checks
from keyfence.v1 import key_service_pb2 as keys
from keyfence.v1 import keyspace_pb2, reason_pb2
from keyfence.v1 import keyspace_service_pb2 as keyspaces
from keyfence.v1 import replication_service_pb2 as replication

LARGE: Final = "large"
"""The keyspace with as many scopes as there may be, and descriptions up to the request's size."""
WIDE: Final = "wide"
"""The keyspace with as many key types, environments and presets as there may be."""

MOST_SCOPES: Final = 10_000
_PASSWORD: Final = "correct horse battery"
_LONG: Final = "x" * 100

Call = Callable[[str, Message, str | None], Awaitable[bytes]]
"""Sends a request to an RPC, such as `KeyService/CreateKey`, with a credential or without one.
Fails as gRPC does."""


@dataclass(frozen=True, slots=True)
class WorstRequest:
    """A request and how to send it.

    Attributes:
        name: of the RPC, and which of its requests it is.
        rpc: such as `KeyService/CreateKey`.
        make: the request. It is made anew for each call, since some can be sent only once.
        is_anonymous: whether it is sent without a credential.
    """

    name: str
    rpc: str
    make: Callable[[], Message]
    is_anonymous: bool = False


def _scope(number: int) -> str:
    return f"s{number:05d}{_LONG}:read"


def large_keyspace(scopes: int) -> keyspace_pb2.Keyspace:
    """The largest declaration that is taken, in which scopes imply one another in a line."""
    return keyspace_pb2.Keyspace(
        name=LARGE,
        key_types=[keyspace_pb2.KeyType(name="secret", manages_keys=True)],
        accounts=keyspace_pb2.Accounts(
            registration=keyspace_pb2.REGISTRATION_OPEN, grantable_scopes=["*"]
        ),
        limits=keyspace_pb2.Limits(keys_per_account=100_000),
        scopes=[
            keyspace_pb2.Scope(
                name=_scope(one),
                description="d" * 25,
                implies=[_scope(one + 1)] if one + 1 < scopes else [],
            )
            for one in range(scopes)
        ],
    )


def wide_keyspace() -> keyspace_pb2.Keyspace:
    """A declaration with as many names of everything as there may be."""
    few = range(31)
    return keyspace_pb2.Keyspace(
        name=WIDE,
        format=keyspace_pb2.KeyFormat(template="wide_{type}_{environment}_{body}"),
        scopes=[keyspace_pb2.Scope(name=_scope(one)) for one in range(2_000)],
        presets=[
            keyspace_pb2.Preset(name=f"p{one}", scopes=[_scope(two) for two in range(200)])
            for one in range(100)
        ],
        key_types=[
            keyspace_pb2.KeyType(name=f"t{one}", marker=f"t{one}", scope_cap=["*"]) for one in few
        ],
        environments=[keyspace_pb2.Environment(name=f"e{one}", marker=f"e{one}") for one in few],
    )


async def prepare(
    call: Call, root: str, *, key_count: int, scopes: int = MOST_SCOPES
) -> list[WorstRequest]:
    """Fills a store, and returns the requests.

    Args:
        root: a credential that may do everything.
        key_count: how many keys the large keyspace has; a page may hold 1,000.
        scopes: how many scopes it has.
    """

    async def ask(rpc: str, request: Message, response: type[Any]) -> Any:
        return response.FromString(await call(rpc, request, root))

    for keyspace in (large_keyspace(scopes), wide_keyspace()):
        request = keyspaces.ApplyKeyspaceRequest(keyspace=keyspace)
        await call("KeyspaceService/ApplyKeyspace", request, root)
    everything = await ask("KeyService/CreateKey", _key(["*"]), keys.CreateKeyResponse)
    granted = [
        await ask("KeyService/CreateKey", _largest_key(scopes, one), keys.CreateKeyResponse)
        for one in range(key_count)
    ]
    return [
        *_of_checks(scopes, everything.api_key, granted[0].api_key),
        *_of_keys(scopes, granted[0].key.key_id, granted[-1].key.key_id),
        *_of_keyspaces(scopes),
        *_of_accounts(),
        *_of_audit(),
        *_of_holders(everything.api_key, everything.key.key_id),
    ]


def _key(scopes: list[str], **fields: Any) -> keys.CreateKeyRequest:
    return keys.CreateKeyRequest(keyspace=LARGE, account_id="a", scopes=scopes, **fields)


def _largest_key(scopes: int, number: int = 0) -> keys.CreateKeyRequest:
    """A key with as much of everything as there may be, and scopes that no other key has."""
    step = scopes // 256
    return _key(
        [_scope((number * 7 + step * one) % scopes) for one in range(256)],
        allowed_addresses=[f"2001:db8:{one:x}::/48" for one in range(64)],
        labels={f"{'l' * 60}{one}": "v" * 256 for one in range(32)},
    )


def _of_checks(scopes: int, everything: str, granted: str) -> list[WorstRequest]:
    longest = [_scope(scopes - 1 - one) for one in range(64)]
    all_of_it = checks.CheckScopeRequest(
        api_key=everything, required_scopes=longest, explain=True, keyspace=LARGE
    )
    denied = checks.CheckScopeRequest(
        api_key=granted,
        required_scopes=[_scope(one) for one in range(64)],
        explain=True,
        client_address="2001:db8::1",
    )
    unknown = checks.CheckScopeRequest(
        api_key=everything, required_scopes=["s" + _LONG + ":raed"], explain=True
    )

    one, other = (
        checks.CheckScopeRequest(api_key=key, required_scopes=longest[:1], explain=True)
        for key in (everything, granted)
    )

    def batch(one: checks.CheckScopeRequest, times: int) -> Callable[[], Message]:
        return lambda: checks.BatchCheckScopeRequest(checks=[one] * times)

    service = "AuthorizationService"
    return [
        WorstRequest(
            "Authenticate, a key of all scopes",
            f"{service}/Authenticate",
            lambda: checks.AuthenticateRequest(api_key=everything),
        ),
        WorstRequest("CheckScope, explained", f"{service}/CheckScope", lambda: all_of_it),
        WorstRequest("CheckScope, denied, explained", f"{service}/CheckScope", lambda: denied),
        WorstRequest("CheckScope, unregistered", f"{service}/CheckScope", lambda: unknown),
        # A batch's limit of bytes holds fewer checks of 64 long scopes than its limit of checks.
        WorstRequest("BatchCheckScope", f"{service}/BatchCheckScope", batch(all_of_it, 70)),
        WorstRequest("BatchCheckScope, denied", f"{service}/BatchCheckScope", batch(denied, 70)),
        WorstRequest(
            "BatchCheckScope, short",
            f"{service}/BatchCheckScope",
            batch(
                checks.CheckScopeRequest(
                    api_key=everything, required_scopes=longest[:10], explain=True
                ),
                256,
            ),
        ),
        # Each explanation walks the graph anew, since the key before had other grants.
        WorstRequest(
            "BatchCheckScope, two keys",
            f"{service}/BatchCheckScope",
            lambda: checks.BatchCheckScopeRequest(checks=[one, other] * 128),
        ),
        WorstRequest("WhoAmI", f"{service}/WhoAmI", checks.WhoAmIRequest),
    ]


def _of_keys(scopes: int, first: str, last: str) -> list[WorstRequest]:
    service = "KeyService"

    def update() -> Message:
        request = keys.UpdateKeyRequest(
            key=keys.Key(key_id=first, granted_scopes=_largest_key(scopes, 3).scopes)
        )
        request.update_mask.paths.append("granted_scopes")
        return request

    def import_of(count: int, key: keys.CreateKeyRequest) -> Callable[[], Message]:
        one = keys.KeyToImport(
            account_id=key.account_id,
            scopes=key.scopes,
            allowed_addresses=key.allowed_addresses,
            labels=key.labels,
        )

        def make() -> Message:
            request = keys.ImportKeysRequest(keyspace=LARGE, keys=[one] * count)
            for imported in request.keys:
                imported.sha256 = secrets.token_bytes(32)
            return request

        return make

    return [
        WorstRequest("CreateKey", f"{service}/CreateKey", lambda: _largest_key(scopes)),
        WorstRequest(
            "ImportKeys, many", f"{service}/ImportKeys", import_of(500, _key([_scope(0)]))
        ),
        # As many as the limit of bytes allows.
        WorstRequest(
            "ImportKeys, large", f"{service}/ImportKeys", import_of(24, _largest_key(scopes))
        ),
        WorstRequest("CreateKey, all scopes", f"{service}/CreateKey", lambda: _key(["*"])),
        WorstRequest("GetKey", f"{service}/GetKey", lambda: keys.GetKeyRequest(key_id=first)),
        WorstRequest(
            "GetKeyUsage",
            f"{service}/GetKeyUsage",
            lambda: keys.GetKeyUsageRequest(
                key_id=first, first_day="2025-12-01", last_day="2026-12-31"
            ),
        ),
        WorstRequest(
            "ListKeys",
            f"{service}/ListKeys",
            lambda: keys.ListKeysRequest(keyspace=LARGE, page_size=1_000),
        ),
        WorstRequest("UpdateKey", f"{service}/UpdateKey", update),
        WorstRequest(
            "RevokeKey", f"{service}/RevokeKey", lambda: keys.RevokeKeyRequest(key_id=last)
        ),
    ]


def _of_keyspaces(scopes: int) -> list[WorstRequest]:
    numbers = iter(range(1_000_000))
    service = "KeyspaceService"

    def apply(keyspace: keyspace_pb2.Keyspace, *, is_dry: bool = False) -> Callable[[], Message]:
        def make() -> Message:
            keyspace.display_name = f"{next(numbers)}"
            return keyspaces.ApplyKeyspaceRequest(keyspace=keyspace, validate_only=is_dry)

        return make

    def applied(keyspace: keyspace_pb2.Keyspace) -> Callable[[], Message]:
        return lambda: keyspaces.ApplyKeyspaceRequest(keyspace=keyspace, validate_only=True)

    large, wide = large_keyspace(scopes), wide_keyspace()
    without_chain = large_keyspace(scopes)
    for scope in without_chain.scopes:
        del scope.implies[:]
    faulty = large_keyspace(scopes)
    for scope in faulty.scopes:
        scope.implies[:] = ["x" + _LONG]
    many_empty = keyspace_pb2.Keyspace(name=LARGE)
    for _ in range(500_000):
        many_empty.scopes.add()
    many_presets = keyspace_pb2.Keyspace(name=LARGE, scopes=[keyspace_pb2.Scope(name="a")])
    many_presets.presets.add(name="p", scopes=["a"] * 800_000)
    as_many_as_allowed = keyspace_pb2.Keyspace(name=LARGE, scopes=[keyspace_pb2.Scope(name="a")])
    as_many_as_allowed.presets.add(name="p", scopes=["a"] * 200_000)
    return [
        WorstRequest("ApplyKeyspace", f"{service}/ApplyKeyspace", apply(large)),
        WorstRequest("ApplyKeyspace, wide", f"{service}/ApplyKeyspace", apply(wide)),
        WorstRequest(
            "ApplyKeyspace, dry", f"{service}/ApplyKeyspace", apply(without_chain, is_dry=True)
        ),
        WorstRequest("ApplyKeyspace, faulty", f"{service}/ApplyKeyspace", applied(faulty)),
        WorstRequest(
            "ApplyKeyspace, empty scopes",
            f"{service}/ApplyKeyspace",
            applied(many_empty),
        ),
        WorstRequest(
            "ApplyKeyspace, one preset",
            f"{service}/ApplyKeyspace",
            applied(many_presets),
        ),
        WorstRequest(
            "ApplyKeyspace, 200,000 names",
            f"{service}/ApplyKeyspace",
            applied(as_many_as_allowed),
        ),
        WorstRequest(
            "GetKeyspace",
            f"{service}/GetKeyspace",
            lambda: keyspaces.GetKeyspaceRequest(name=LARGE),
        ),
        WorstRequest(
            "ListKeyspaces",
            f"{service}/ListKeyspaces",
            lambda: keyspaces.ListKeyspacesRequest(page_size=1_000),
        ),
        WorstRequest(
            "ExplainScope",
            f"{service}/ExplainScope",
            lambda: keyspaces.ExplainScopeRequest(keyspace=LARGE, scope=_scope(scopes // 2)),
        ),
    ]


def _of_accounts() -> list[WorstRequest]:
    numbers = iter(range(1_000_000))
    service = "AccountService"
    labels = {f"l{one}": "v" * 100 for one in range(30)}

    def register() -> Message:
        return accounts.RegisterAccountRequest(
            keyspace=LARGE,
            email=f"a{next(numbers)}@example.com",
            password=_PASSWORD,
            labels=labels,
        )

    return [
        WorstRequest("RegisterAccount", f"{service}/RegisterAccount", register, is_anonymous=True),
        WorstRequest(
            "LogIn",
            f"{service}/LogIn",
            lambda: accounts.LogInRequest(
                keyspace=LARGE, email="nobody@example.com", password="p" * 1_000
            ),
            is_anonymous=True,
        ),
        WorstRequest(
            "ListAccounts",
            f"{service}/ListAccounts",
            lambda: accounts.ListAccountsRequest(keyspace=LARGE, page_size=1_000),
        ),
    ]


def _of_audit() -> list[WorstRequest]:
    service = "AuditService"
    return [
        WorstRequest(
            "ListAuditEvents",
            f"{service}/ListAuditEvents",
            lambda: audit.ListAuditEventsRequest(page_size=1_000),
        ),
        WorstRequest(
            "VerifyAuditEvents", f"{service}/VerifyAuditEvents", audit.VerifyAuditEventsRequest
        ),
        WorstRequest(
            "ExportAuditEvents",
            f"{service}/ExportAuditEvents",
            lambda: audit.ExportAuditEventsRequest(page_size=1_000),
        ),
    ]


def _of_holders(everything: str, key_id: str) -> list[WorstRequest]:
    service = "ReplicationService"
    uses = replication.ReportUsesRequest()
    for one in range(10_000):
        used = uses.uses.add(key_id=key_id[:-5] + f"{one:05d}", day="2026-11-29", count=1)
        used.last_used_address = "2001:db8::1"
        used.last_used_time.GetCurrentTime()
        tried = uses.attempts.add(
            keyspace=LARGE,
            reason=reason_pb2.REASON_KEY_REVOKED,
            account_id="a",
            subject=key_id[:-5] + f"{one:05d}",
            address="2001:db8::1",
            count=1,
            request_id=f"r{one}",
        )
        tried.first_time.GetCurrentTime()
        tried.last_time.GetCurrentTime()
    return [
        WorstRequest(
            "FetchFacts",
            f"{service}/FetchFacts",
            lambda: replication.FetchFactsRequest(api_key=everything),
        ),
        WorstRequest(
            "FetchKeyspaces", f"{service}/FetchKeyspaces", replication.FetchKeyspacesRequest
        ),
        WorstRequest("ReportUses", f"{service}/ReportUses", lambda: uses),
        WorstRequest("ListReplicas", f"{service}/ListReplicas", replication.ListReplicasRequest),
    ]
