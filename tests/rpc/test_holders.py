"""What a holder is let in for, what it is told, and when its stream ends."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from keyfence import AsyncClient, CreatedKey
from keyfence.holder.dial import LET_IN
from keyfence.v1 import keyspace_pb2, reason_pb2
from keyfence.v1 import replication_service_pb2 as messages
from keyfence.v1 import replication_service_pb2_grpc as stubs
from rpc.conftest import Serve
from support.serving import Served


class Holder:
    """A holder on the wire."""

    def __init__(self, served: Served, token: str, **hello: Any) -> None:
        self.stub = stubs.ReplicationServiceStub(served.client.channel)
        self._metadata = (("authorization", f"Bearer {token}"),)
        self.call = self.stub.Sync(metadata=self._metadata)
        self._hello = messages.Hello(holder_id=secrets.token_hex(16), **hello)
        self._nonce = 0
        self.applied = 0

    async def begin(self) -> messages.Lease:
        await self.call.write(messages.SyncRequest(hello=self._hello))
        return await self.renew()

    async def renew(self) -> messages.Lease:
        self._nonce += 1
        await self.call.write(
            messages.SyncRequest(
                renew=messages.Renew(nonce=self._nonce, applied_revision=self.applied)
            )
        )
        while not (response := await self.read()).HasField("lease"):
            pass
        self.applied = max(self.applied, response.lease.head_revision)
        return response.lease

    async def read(self) -> messages.SyncResponse:
        response = await self.call.read()
        if response is grpc.aio.EOF:
            raise EOFError
        assert isinstance(response, messages.SyncResponse)
        return response

    async def next_changes(self) -> messages.RevisionChanges:
        """The next revision, which is acknowledged."""
        while not (response := await self.read()).HasField("changes"):
            pass
        self.applied = response.changes.revision
        await self.acknowledge()
        return response.changes

    async def acknowledge(self) -> None:
        await self.call.write(
            messages.SyncRequest(renew=messages.Renew(applied_revision=self.applied))
        )

    async def fetch(self, api_key: str) -> messages.FetchFactsResponse:
        found = await self.stub.FetchFacts(
            messages.FetchFactsRequest(api_key=api_key), metadata=self._metadata
        )
        assert isinstance(found, messages.FetchFactsResponse)
        return found

    async def ended(self) -> grpc.StatusCode:
        async with asyncio.timeout(30):
            code = await self.call.code()
        assert isinstance(code, grpc.StatusCode)
        return code


@pytest.fixture
async def root(served: Served) -> AsyncIterator[AsyncClient]:
    target = str(served.server.addresses[0])
    async with AsyncClient(target, token=served.client.root) as client:
        await client.apply_keyspace(_keyspace("victim"))
        yield client


def _keyspace(name: str) -> keyspace_pb2.Keyspace:
    return keyspace_pb2.Keyspace(name=name, scopes=[keyspace_pb2.Scope(name="vps:read")])


async def _holders_key(root: AsyncClient, keyspace: str = "demo", **more: Any) -> CreatedKey:
    return await root.create_key(
        keyspace="system",
        account_id=f"{keyspace}-ops",
        scopes=["replication:sync", "replication:read"],
        bound_keyspaces=[keyspace],
        **more,
    )


async def _key(root: AsyncClient, keyspace: str) -> CreatedKey:
    return await root.create_key(keyspace=keyspace, account_id="acct_1", scopes=["vps:read"])


async def test_a_holder_is_told_nothing_of_what_its_credential_is_not_bound_to(
    served: Served, root: AsyncClient
) -> None:
    """Revisions come all the same, since they come without gaps."""
    for kind in (messages.HOLDER_KIND_SDK, messages.HOLDER_KIND_SIDECAR):
        holder = Holder(served, (await _holders_key(root)).api_key, kind=kind)
        await holder.begin()
        told = asyncio.ensure_future(_changes(holder, 4))
        await root.apply_keyspace(_keyspace(f"secret-{kind}"))
        made = await _key(root, "victim")
        await root.revoke_key(made.key.key_id)
        mine = await _key(root, "demo")
        *others, own = await told
        assert [list(one.changes) for one in others] == [[], [], []]
        assert [one.key_id for one in own.changes] == [mine.key.key_id]
        assert [one.in_keyspace for one in own.changes] == ["demo"]
        holder.call.cancel()


async def _changes(holder: Holder, count: int) -> list[messages.RevisionChanges]:
    return [await holder.next_changes() for _ in range(count)]


async def test_a_sidecar_is_told_of_operators_that_were_presented_to_it_and_of_no_others(
    served: Served, root: AsyncClient
) -> None:
    """It checks its own callers, so it keeps their credentials."""
    known, unknown = await _holders_key(root, "victim"), await _holders_key(root, "victim")
    own = await _holders_key(root)
    sidecar = Holder(served, own.api_key, kind=messages.HOLDER_KIND_SIDECAR)
    await sidecar.begin()
    assert (await sidecar.fetch(known.api_key)).lineage
    told = asyncio.ensure_future(_changes(sidecar, 3))
    await root.revoke_key(unknown.key.key_id)
    await root.revoke_key(known.key.key_id)
    await _holders_key(root, "victim")
    of_unknown, of_known, of_new = await told
    assert not of_unknown.changes
    assert [one.key_id for one in of_known.changes] == [known.key.key_id]
    assert [(one.key_id, one.created) for one in of_new.changes] == [("", True)]


async def test_facts_are_all_that_a_holder_needs(served: Served, root: AsyncClient) -> None:
    parent = await root.create_key(
        keyspace="demo",
        account_id="acct_1",
        scopes=["vps:write"],
        allowed_addresses=["192.0.2.0/24"],
        expire_time=datetime.now(UTC) + timedelta(days=1),
    )
    child = await root.create_key(
        keyspace="demo",
        account_id="acct_1",
        scopes=["vps:read"],
        parent_key_id=parent.key.key_id,
    )
    holder = Holder(served, (await _holders_key(root)).api_key)
    facts = (await holder.fetch(child.api_key)).facts
    assert facts.principal.key_id == child.key.key_id
    assert list(facts.principal.effective_scopes) == ["vps:read"]
    assert facts.expire_time.ToDatetime(UTC) == parent.key.expire_time
    assert {tuple(one.networks) for one in facts.address_lists} == {("192.0.2.0/24",)}
    assert set(facts.depends_on) == {
        f"key:{child.key.key_id}",
        f"key:{parent.key.key_id}",
        "keyspace:demo",
        "account:acct_1",
    }
    assert not (await holder.fetch((await _key(root, "victim")).api_key)).HasField("facts")
    assert not (await holder.fetch((await _holders_key(root)).api_key)).HasField("facts")


async def test_a_lease_does_not_outlive_the_credential_and_the_stream_ends_with_it(
    served: Served, root: AsyncClient
) -> None:
    made = await _holders_key(root, expire_time=datetime.now(UTC) + timedelta(seconds=2))
    holder = Holder(served, made.api_key)
    lease = await holder.begin()
    assert made.key.expire_time is not None
    left = (made.key.expire_time - datetime.now(UTC)).total_seconds()
    assert lease.ttl.ToNanoseconds() / 1e9 <= left + 0.5
    # It says nothing more, and is not allowed to stay.
    assert await holder.ended() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_holder_whose_credential_changes_gives_up_and_delays_no_mutation(
    served: Served, root: AsyncClient
) -> None:
    """Until it says so, mutations wait; from then on they do not wait for its lease."""
    made = await _holders_key(root)
    holder = Holder(served, made.api_key)
    await holder.begin()
    change = asyncio.ensure_future(root.revoke_key(made.key.key_id))
    while not (await holder.read()).HasField("end"):
        pass
    # What it acknowledges counts for nothing.
    holder.applied += 1
    await holder.acknowledge()
    _, waiting = await asyncio.wait([change], timeout=0.3)
    assert waiting
    await holder.call.write(messages.SyncRequest(given_up=messages.GivenUp()))
    await change
    assert await holder.ended() is grpc.StatusCode.OK


async def test_a_version_that_is_not_spoken_is_named(served: Served, root: AsyncClient) -> None:
    holder = Holder(served, (await _holders_key(root)).api_key, protocol_version=2)
    with pytest.raises(grpc.aio.AioRpcError, match="version 1"):
        await holder.begin()
    assert await holder.ended() is grpc.StatusCode.FAILED_PRECONDITION


async def test_replicas_name_their_credential_to_callers_that_may_know_it(
    served: Served, root: AsyncClient
) -> None:
    mine, other = await _holders_key(root), await _holders_key(root, "victim")
    holders = [Holder(served, one.api_key) for one in (mine, other)]
    for one in holders:
        await one.begin()

    async def listed(token: str) -> set[tuple[str, str]]:
        found = await holders[0].stub.ListReplicas(
            messages.ListReplicasRequest(), metadata=(("authorization", f"Bearer {token}"),)
        )
        return {(one.credential_id, one.account_id) for one in found.replicas}

    expected = {(one.key.key_id, one.key.account_id) for one in (mine, other)}
    assert await listed(served.client.root) == expected
    assert await listed(mine.api_key) == {(mine.key.key_id, mine.key.account_id)}


async def test_one_credential_cannot_take_every_place(serve: Serve) -> None:
    served = await serve(max_concurrent_calls=4)
    holders = []
    for _ in range(64):
        holder = Holder(served, served.client.root)
        holders.append(holder)
        if not any(name == LET_IN for name, _ in await holder.call.initial_metadata() or ()):
            break
        await holder.begin()
    assert await holders[-1].ended() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "this credential" in await holders[-1].call.details()


async def test_a_report_names_no_operator_that_was_not_presented_to_the_holder(
    served: Served, root: AsyncClient
) -> None:
    """It would put another tenant's credential into the audit log."""
    known, unknown = await _holders_key(root, "victim"), await _holders_key(root, "victim")
    made = await _holders_key(root)
    sidecar = Holder(served, made.api_key, kind=messages.HOLDER_KIND_SIDECAR)
    await sidecar.begin()
    await sidecar.fetch(known.api_key)
    attempts = []
    for one in (known, unknown):
        attempt = messages.ReportedAttempt(
            keyspace="system",
            reason=reason_pb2.REASON_KEY_REVOKED,
            account_id=one.key.account_id,
            subject=one.key.key_id,
            count=1,
        )
        attempt.first_time.GetCurrentTime()
        attempt.last_time.GetCurrentTime()
        attempts.append(attempt)
    await sidecar.stub.ReportUses(
        messages.ReportUsesRequest(attempts=attempts),
        metadata=(("authorization", f"Bearer {made.api_key}"),),
    )
    notes = served.server._backend.notes
    noted = {one.subject for _, one in notes.attempts._tallies if one.reported_by}
    assert noted == {known.key.key_id, ""}
