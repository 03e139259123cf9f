"""Threats 1 to 7: a key that was taken back is accepted somewhere all the same."""

from __future__ import annotations

import ast
import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

import keyfence_server
from fence.threats.conftest import LEASE_SECONDS, Together
from fence.torture.writer import declaration
from keyfence import DeadlineExceeded, KeyState
from keyfence._holder.lease import HolderLease
from keyfence._holder.memory import Memory
from keyfence.v1 import key_service_pb2
from keyfence.v1 import replication_service_pb2 as messages
from keyfence_server.adapters.upstream.store import UpstreamStore
from keyfence_server.application.ports import StoreUnavailable

pytestmark = pytest.mark.postgres


async def test_1_whoever_knew_the_key_refuses_it_when_the_revocation_returns(
    together: Together,
) -> None:
    """Without the fence, whoever has the key in memory would accept it for as long as it
    likes: the other server, the sidecar, the clients' caches."""
    for _ in range(5):
        made = await together.here.create_key(
            keyspace="torture", account_id="acme", scopes=["vps:write"]
        )
        await together.warm(made.api_key)
        assert all((await together.answers(made.api_key)).values())
        await together.holders["two"].revoke_key(made.key.key_id)
        assert not any((await together.answers(made.api_key)).values())


def facts(revision: int, state: key_service_pb2.KeyState.ValueType, epoch: str = "east") -> Any:
    key = key_service_pb2.Key(key_id="key_1", keyspace="acme", state=state)
    return messages.FetchFactsResponse(lineage=[key], revision=revision, epoch=epoch)


def revoked_at(revision: int) -> messages.RevisionChanges:
    change = messages.SubjectChange(key_id="key_1")
    return messages.RevisionChanges(revision=revision, changes=[change])


def test_2_what_was_read_before_a_change_is_not_put_back_behind_it() -> None:
    """Without the fill's list of changes, the old record would stay until the next one."""
    memory = Memory(10)
    memory.forget_everything(5, "east")
    fill = memory.begin_fill()
    memory.apply(6, revoked_at(6))
    memory.end_fill(fill, b"digest", facts(5, key_service_pb2.KEY_STATE_ACTIVE))
    assert memory.find(b"digest") is None
    again = memory.begin_fill()
    memory.end_fill(again, b"digest", facts(6, key_service_pb2.KEY_STATE_REVOKED))
    assert memory.find(b"digest") is not None


def test_3_what_a_server_that_lags_behind_knows_is_not_taken() -> None:
    """Without the revision in the answer, a cache that has forgotten the key because of the
    change would fill itself from before it."""
    memory = Memory(10)
    memory.forget_everything(5, "east")
    memory.apply(6, revoked_at(6))
    fill = memory.begin_fill()
    memory.end_fill(fill, b"digest", facts(5, key_service_pb2.KEY_STATE_ACTIVE))
    assert memory.find(b"digest") is None


def test_3_revisions_of_another_history_are_not_taken_for_new() -> None:
    """After a failover that lost writes, numbers from before it are given out again: a server
    that does not know of it yet, or knows of it already, would seem to be new enough."""
    memory = Memory(10)
    memory.forget_everything(5, "east")
    fill = memory.begin_fill()
    memory.end_fill(fill, b"digest", facts(7, key_service_pb2.KEY_STATE_ACTIVE, "west"))
    assert memory.find(b"digest") is None


def test_10_a_cache_has_nothing_to_say_of_operators() -> None:
    """A holder is told of them, since a sidecar has callers of its own. Whether such a
    credential is anybody's business depends on who asks, which only the server knows."""
    memory = Memory(10)
    memory.forget_everything(5, "east")
    found = facts(5, key_service_pb2.KEY_STATE_ACTIVE)
    found.lineage[0].keyspace = "system"
    assert not memory.end_fill(memory.begin_fill(), b"digest", found)
    assert memory.find(b"digest") is None


@pytest.mark.parametrize(
    ("revision", "epoch", "why"), [(5, "east", "older than 6"), (7, "west", "failover")]
)
async def test_3_a_sidecar_takes_nothing_older_than_what_it_has_applied(
    revision: int, epoch: str, why: str
) -> None:
    class Lagging:
        async def fetch_keyspaces(self, _: Any) -> messages.FetchKeyspacesResponse:
            return messages.FetchKeyspacesResponse(revision=revision, epoch=epoch)

    lease = HolderLease()
    lease.grant(lease.request(0.0), 2.0, 6, "east")
    store = UpstreamStore(Lagging(), lease, lambda *_: None, lambda _: [])  # type: ignore[arg-type]
    async with store.snapshot() as snapshot:
        with pytest.raises(StoreUnavailable, match=why):
            await snapshot.list_keyspaces(after=None, limit=10)


@pytest.fixture
async def silent_holder(together: Together, tmp_path: Path) -> AsyncIterator[None]:
    """A holder that renews its lease, and never says that it has applied anything."""
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/one.sock") as channel:
        call: Any = channel.stream_stream(
            "/keyfence.v1.ReplicationService/Sync",
            request_serializer=messages.SyncRequest.SerializeToString,
            response_deserializer=messages.SyncResponse.FromString,
        )(metadata=(("authorization", f"Bearer {together.root}"),))
        hello = messages.Hello(holder_id=secrets.token_hex(16), kind=messages.HOLDER_KIND_SDK)
        await call.write(messages.SyncRequest(hello=hello))
        await call.write(messages.SyncRequest(renew=messages.Renew(nonce=1)))
        assert (await call.read()).lease.ttl.ToTimedelta() > timedelta(seconds=0.5)
        yield
        call.cancel()


async def test_4_a_revocation_that_not_everyone_has_heard_of_is_not_ok(
    together: Together, silent_holder: None
) -> None:
    """Were a holder that says nothing only noted in the log, this would return at once."""
    made = await together.here.create_key(keyspace="torture", account_id="acme")
    # Its lease was waited out for the creation, and it has asked for no other since.
    del silent_holder
    await together.here.revoke_key(made.key.key_id)


async def test_4_a_deadline_before_the_fence_is_an_error_and_a_repetition_waits(
    together: Together, silent_holder: None
) -> None:
    del silent_holder
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(DeadlineExceeded):
        await together.here.apply_keyspace(
            declaration(implies=False), timeout_seconds=LEASE_SECONDS / 5
        )
    await together.here.apply_keyspace(declaration(implies=False))
    assert loop.time() - began > LEASE_SECONDS / 2


def test_5_nothing_but_the_one_gate_opens_a_transaction() -> None:
    """A path that writes past the gate would change a key and tell nobody."""
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
    assert opens == {"application/mutations.py", "telemetry/measured_store.py"}


Narrowing = Callable[[Together, str], Awaitable[object]]

NARROWINGS: dict[str, Narrowing] = {
    "revoke": lambda all_, key: all_.here.revoke_key(key),
    "rotate": lambda all_, key: all_.here.rotate_key(key),
    "disable": lambda all_, key: all_.here.update_key(key, state=KeyState.DISABLED),
    "fewer scopes": lambda all_, key: all_.here.update_key(key, granted_scopes=[]),
    "an allow-list": lambda all_, key: all_.here.update_key(key, allowed_addresses=["10.0.0.0/8"]),
    "the keyspace": lambda all_, _: all_.here.apply_keyspace(declaration(implies=False)),
}


@pytest.mark.parametrize("narrowing", NARROWINGS)
async def test_5_every_kind_of_narrowing_holds_everywhere_when_it_returns(
    together: Together, narrowing: str
) -> None:
    """One kind that forgot to say what it changed would be seen here, at whoever caches."""
    made = await together.here.create_key(
        keyspace="torture", account_id="acme", scopes=["vps:write"]
    )
    await together.warm(made.api_key)
    assert all((await together.answers(made.api_key)).values())
    await NARROWINGS[narrowing](together, made.key.key_id)
    assert not any((await together.answers(made.api_key)).values())


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
    """Were half a load kept, or a load that nobody waits for any more, a later check would
    be answered from it."""
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
