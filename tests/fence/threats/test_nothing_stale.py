"""Threats 1 to 7: a key that was taken back is accepted somewhere all the same."""

from __future__ import annotations

import ast
import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

import keyfence_server
from fence.threats.conftest import CHECK_TIMEOUT_SECONDS, LEASE_SECONDS, Together
from fence.torture.writer import declaration
from keyfence import (
    AsyncClient,
    DeadlineExceeded,
    InvalidRequest,
    KeyState,
    PermissionDenied,
    Unauthenticated,
)
from keyfence.holder.lease import HolderLease
from keyfence.holder.memory import Memory
from keyfence.v1 import key_service_pb2, keyspace_pb2, principal_pb2, reason_pb2
from keyfence.v1 import replication_service_pb2 as messages
from keyfence_server.adapters.upstream.store import UpstreamStore
from keyfence_server.application.heavy_work import HeavyWork
from keyfence_server.application.ports import StoreUnavailable
from support.serving import PASSWORD

pytestmark = pytest.mark.postgres


async def test_1_every_holder_that_knew_the_key_refuses_it_when_the_revocation_returns(
    together: Together,
) -> None:
    """Without the fence, every holder that has the key in memory would go on accepting it: the
    other server, the sidecar, the clients' caches."""
    for _ in range(5):
        made = await together.here.create_key(
            keyspace="torture", account_id="acme", scopes=["vps:write"]
        )
        await together.warm(made.api_key)
        assert all((await together.answers(made.api_key)).values())
        await together.holders["two"].revoke_key(made.key.key_id)
        assert not any((await together.answers(made.api_key)).values())


def facts(revision: int, standing: reason_pb2.Reason.ValueType, epoch: str = "east") -> Any:
    found = messages.KeyFacts(
        principal=principal_pb2.Principal(key_id="key_1", keyspace="acme"),
        standing=standing,
        depends_on=["key:key_1", "keyspace:acme"],
    )
    return messages.FetchFactsResponse(facts=found, revision=revision, epoch=epoch)


def revoked_at(revision: int) -> messages.RevisionChanges:
    change = messages.SubjectChange(key_id="key_1")
    return messages.RevisionChanges(revision=revision, changes=[change])


def test_2_what_was_read_before_a_change_is_not_put_back_behind_it() -> None:
    """Without the fill's list of changes, the old record would stay until the next one."""
    memory = Memory(10)
    memory.forget_everything(5, "east")
    fill = memory.begin_fill()
    memory.apply(revoked_at(6))
    memory.end_fill(fill, b"digest", facts(5, reason_pb2.REASON_OK))
    assert memory.find(b"digest") is None
    again = memory.begin_fill()
    memory.end_fill(again, b"digest", facts(6, reason_pb2.REASON_KEY_REVOKED))
    assert memory.find(b"digest") is not None


def test_3_what_a_server_that_lags_behind_knows_is_not_taken() -> None:
    """Without the revision in the answer, a cache that has forgotten the key because of the
    change would fill itself from before it."""
    memory = Memory(10)
    memory.forget_everything(5, "east")
    memory.apply(revoked_at(6))
    fill = memory.begin_fill()
    memory.end_fill(fill, b"digest", facts(5, reason_pb2.REASON_OK))
    assert memory.find(b"digest") is None


def test_3_revisions_of_another_history_are_not_taken_for_new() -> None:
    """After a failover that lost writes, numbers from before it are given out again: a server
    that does not know of it yet, or knows of it already, would seem to be new enough."""
    memory = Memory(10)
    memory.forget_everything(5, "east")
    fill = memory.begin_fill()
    memory.end_fill(fill, b"digest", facts(7, reason_pb2.REASON_OK, "west"))
    assert memory.find(b"digest") is None


def test_10_a_cache_has_nothing_to_say_of_operators() -> None:
    """A sidecar is told of an operator's credential, since it has callers of its own. A cache is
    given no facts of it, so it remembers nothing and asks the server each time."""
    memory = Memory(10)
    memory.forget_everything(5, "east")
    lineage = [key_service_pb2.Key(key_id="key_1", keyspace="system")]
    found = messages.FetchFactsResponse(lineage=lineage, revision=5, epoch="east", well_formed=True)
    assert not memory.end_fill(memory.begin_fill(), b"digest", found)
    assert memory.find(b"digest") is None


@pytest.mark.parametrize(
    ("revision", "epoch", "why"), [(5, "east", "older than 6"), (7, "west", "failover")]
)
async def test_3_a_sidecar_takes_nothing_older_than_what_it_has_applied(
    revision: int, epoch: str, why: str
) -> None:
    class Lagging:
        async def ask(self, _rpc: Any, _request: Any) -> messages.FetchKeyspacesResponse:
            return messages.FetchKeyspacesResponse(revision=revision, epoch=epoch)

    lease = HolderLease()
    lease.grant(lease.request(0.0), 2.0, 6, "east")
    lagging: Any = Lagging()
    store = UpstreamStore(lagging, lease, HeavyWork())
    async with store.snapshot() as snapshot:
        with pytest.raises(StoreUnavailable, match=why):
            await snapshot.list_keyspaces(after=None, limit=10)
        with pytest.raises(StoreUnavailable, match=why):
            await snapshot.find_keyspace("acme")


class SilentHolder:
    """A holder that renews its lease when it is told to, and never says that it has applied
    anything."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._nonce = 0

    async def renew(self) -> float:
        """Asks for a lease, and tells until when it may answer from before whatever changes
        then, by the event loop's clock."""
        loop = asyncio.get_running_loop()
        while True:
            self._nonce += 1
            asked_at = loop.time()
            await self._call.write(messages.SyncRequest(renew=messages.Renew(nonce=self._nonce)))
            while (answer := await self._call.read()).lease.nonce != self._nonce:
                pass
            ttl = answer.lease.ttl.ToTimedelta()
            # It is as much as is left of the server's own.
            if ttl > timedelta(seconds=LEASE_SECONDS / 2):
                return float(asked_at + ttl.total_seconds())


@pytest.fixture
async def silent_holder(together: Together, tmp_path: Path) -> AsyncIterator[SilentHolder]:
    """One at the first server, with a lease."""
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/one.sock") as channel:
        call: Any = channel.stream_stream(
            "/keyfence.v1.ReplicationService/Sync",
            request_serializer=messages.SyncRequest.SerializeToString,
            response_deserializer=messages.SyncResponse.FromString,
        )(metadata=(("authorization", f"Bearer {together.root}"),))
        hello = messages.Hello(holder_id=secrets.token_hex(16), kind=messages.HOLDER_KIND_SDK)
        await call.write(messages.SyncRequest(hello=hello))
        holder = SilentHolder(call)
        await holder.renew()
        yield holder
        call.cancel()


@pytest.mark.parametrize("at", ["one", "two"])
async def test_4_a_revocation_that_not_everyone_has_heard_of_is_not_ok(
    together: Together, silent_holder: SilentHolder, at: str
) -> None:
    """Were a holder that says nothing only noted in the log, or known to its own server
    alone, this would return while it may still answer."""
    made = await together.here.create_key(keyspace="torture", account_id="acme")
    answers_until = await silent_holder.renew()
    await together.holders[at].revoke_key(made.key.key_id)
    assert asyncio.get_running_loop().time() > answers_until


async def test_4_a_deadline_before_the_fence_is_an_error_and_a_repetition_waits(
    together: Together, silent_holder: SilentHolder
) -> None:
    answers_until = await silent_holder.renew()
    with pytest.raises(DeadlineExceeded):
        await together.here.apply_keyspace(
            declaration(implies=False), timeout_seconds=LEASE_SECONDS / 5
        )
    await together.here.apply_keyspace(declaration(implies=False))
    assert asyncio.get_running_loop().time() > answers_until


def test_5_nothing_but_the_one_gate_opens_a_transaction() -> None:
    """A path that writes past the gate would change a key without informing any holder. To
    recover an operator only adds a credential, which no holder can have seen."""
    package = Path(keyfence_server.__file__).parent
    opens = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "adapters/sql" not in path.as_posix()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "transaction"
    }
    assert opens == {
        "application/mutations.py",
        "application/recover_operator.py",
        "telemetry/measured_store.py",
    }


@dataclass(frozen=True)
class Anna:
    """A registered account with a key, and a session in which it is logged in."""

    account_id: str
    key_id: str
    api_key: str
    session_token: str


async def sign_up(together: Together) -> Anna:
    """Registers her in the keyspace."""
    await together.here.apply_keyspace(with_accounts(implies=True))
    made = await together.here.register_account("torture", "anna@example.com", PASSWORD)
    account_id = made.account.account_id
    key = await together.here.create_key(
        keyspace="torture", account_id=account_id, scopes=["vps:write"]
    )
    session = await together.here.log_in("torture", "anna@example.com", PASSWORD)
    return Anna(account_id, key.key.key_id, key.api_key, session.session_token)


def with_accounts(*, implies: bool) -> keyspace_pb2.Keyspace:
    declared = declaration(implies=implies)
    declared.accounts.SetInParent()
    return declared


Restriction = Callable[[AsyncClient, Anna], Awaitable[object]]


async def expire(client: AsyncClient, anna: Anna) -> None:
    """Has the key expire at once, and returns when it has by the one clock of this host. That
    is no later than when every holder was told."""
    ahead = timedelta(seconds=LEASE_SECONDS / 10)
    while True:
        soon = datetime.now(UTC) + ahead
        try:
            await client.update_key(anna.key_id, expire_time=soon)
            break
        except InvalidRequest:
            # On a busy machine it may have passed when the call arrives.
            ahead *= 2
    while datetime.now(UTC) < soon:  # noqa: ASYNC110 - nothing announces the time of day
        await asyncio.sleep(0.01)


RESTRICTIONS: dict[str, Restriction] = {
    "revoke": lambda client, anna: client.revoke_key(anna.key_id),
    "rotate": lambda client, anna: client.rotate_key(anna.key_id),
    "disable": lambda client, anna: client.update_key(anna.key_id, state=KeyState.DISABLED),
    "fewer scopes": lambda client, anna: client.update_key(anna.key_id, granted_scopes=[]),
    "an allow-list": lambda client, anna: client.update_key(
        anna.key_id, allowed_addresses=["10.0.0.0/8"]
    ),
    "an earlier expiry": expire,
    "the keyspace": lambda client, _: client.apply_keyspace(with_accounts(implies=False)),
    "the account": lambda client, anna: client.disable_account(anna.account_id),
}


@pytest.mark.parametrize("restriction", RESTRICTIONS)
async def test_5_every_restrictive_change_is_in_effect_everywhere_when_it_returns(
    together: Together, restriction: str
) -> None:
    """A kind of change that does not say what it changed would show here, at every cache."""
    anna = await sign_up(together)
    await together.warm(anna.api_key)
    assert all((await together.answers(anna.api_key)).values())
    await RESTRICTIONS[restriction](together.here, anna)
    assert not any((await together.answers(anna.api_key)).values())


ENDINGS: dict[str, Restriction] = {
    "log-out of all": lambda client, anna: client.log_out(anna.account_id, all_sessions=True),
    "another password": lambda client, anna: client.update_account(
        anna.account_id, new_password=f"another {PASSWORD}"
    ),
    "the account": lambda client, anna: client.disable_account(anna.account_id),
}


@pytest.mark.parametrize("ending", [*ENDINGS, "log-out"])
async def test_5_an_ended_session_is_over_at_every_server_when_that_returns(
    together: Together, tmp_path: Path, ending: str
) -> None:
    """Both servers remember sessions. A server that is not informed would go on accepting this one.
    Sidecars know no sessions."""
    anna = await sign_up(together)
    async with AsyncExitStack() as stack:
        inside = [
            await stack.enter_async_context(
                AsyncClient(
                    f"unix:{tmp_path}/{whom}.sock",
                    token=anna.session_token,
                    check_timeout_seconds=CHECK_TIMEOUT_SECONDS,
                )
            )
            for whom in ("one", "two")
        ]
        for client in inside:
            assert (await client.who_am_i()).principal.account_id == anna.account_id
        if ending == "log-out":
            await inside[0].log_out()
        else:
            await ENDINGS[ending](together.here, anna)
        for client in inside:
            with pytest.raises(Unauthenticated):
                await client.who_am_i()


CREDENTIAL_RESTRICTIONS: dict[str, Callable[[AsyncClient, str], Awaitable[object]]] = {
    "revoked": lambda client, key_id: client.revoke_key(key_id),
    "rotated": lambda client, key_id: client.rotate_key(key_id),
    "disabled": lambda client, key_id: client.update_key(key_id, state=KeyState.DISABLED),
    "narrowed": lambda client, key_id: client.update_key(key_id, granted_scopes=["keyspaces:read"]),
    "of fewer addresses": lambda client, key_id: client.update_key(
        key_id, allowed_addresses=["10.0.0.0/8"]
    ),
}


@pytest.mark.parametrize("restriction", CREDENTIAL_RESTRICTIONS)
async def test_5_a_restricted_credential_gets_no_answers_any_more(
    together: Together, tmp_path: Path, restriction: str
) -> None:
    """Holders remember the credentials of their callers too, and must forget them in the same
    way."""
    key = await together.here.create_key(
        keyspace="torture", account_id="acme", scopes=["vps:write"]
    )
    asking = await together.here.create_key(
        keyspace="system",
        account_id="checkout",
        scopes=["keys:check"],
        bound_keyspaces=["torture"],
    )
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                AsyncClient(
                    f"unix:{tmp_path}/{whom}.sock",
                    token=asking.api_key,
                    check_timeout_seconds=CHECK_TIMEOUT_SECONDS,
                )
            )
            for whom in together.servers
        ]
        for client in clients:
            assert (await client.check_scope(key.api_key, "vps:read")).allowed
        await CREDENTIAL_RESTRICTIONS[restriction](together.here, asking.key.key_id)
        for client in clients:
            with pytest.raises((Unauthenticated, PermissionDenied)):
                await client.check_scope(key.api_key, "vps:read")


async def test_6_what_was_accepted_for_one_scope_or_address_is_not_for_another(
    together: Together,
) -> None:
    """Were decisions remembered, and not facts, the second question would get the answer
    of the first."""
    made = await together.here.create_key(
        keyspace="torture",
        account_id="acme",
        scopes=["vps:read"],
        allowed_addresses=["10.0.0.0/8"],
    )
    for name, client in together.holders.items():
        for _ in range(3):
            inside = await client.check_scope(made.api_key, "vps:read", client_address="10.1.1.1")
            other = await client.check_scope(made.api_key, "vps:write", client_address="10.1.1.1")
            outside = await client.check_scope(made.api_key, "vps:read", client_address="11.1.1.1")
            nowhere = await client.check_scope(made.api_key, "vps:read")
            allowed = [one.allowed for one in (inside, other, outside, nowhere)]
            assert allowed == [True, False, False, False], name
            await together.warm(made.api_key)


async def test_7_a_load_that_was_given_up_leaves_nothing(together: Together) -> None:
    """A later check would be answered from it otherwise."""
    client = together.holders["cache at the sidecar"]
    first = await together.here.create_key(
        keyspace="torture", account_id="acme", scopes=["vps:write"]
    )
    await together.warm(first.api_key)
    for turns in range(12):
        made = await together.here.create_key(
            keyspace="torture", account_id="acme", scopes=["vps:write"]
        )
        asking = asyncio.ensure_future(client.check_scope(made.api_key, "vps:read"))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await together.here.revoke_key(made.key.key_id)
        assert not any((await together.answers(made.api_key)).values())
