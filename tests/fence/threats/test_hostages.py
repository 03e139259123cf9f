"""Threat 33: no holder delays a mutation beyond the stated bound, whatever it does (I8).

Real servers, and holders that keep to the wire and to nothing else.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import grpc
import pytest
import pytest_asyncio

from fence.threats.conftest import LEASE_SECONDS, PEPPER, SESSION_KEY
from fence.torture.writer import declaration
from keyfence import AsyncClient
from keyfence.v1 import replication_service_pb2 as messages
from keyfence.v1 import replication_service_pb2_grpc as stubs
from keyfence_server.application.first_start import new_root_credential
from keyfence_server.coherence.terms import LeaseTerms
from support.serving import start_for_test
from testkit.postgres import PostgresServer

TERMS: Final = LeaseTerms(length=LEASE_SECONDS)
# What a busy machine takes for the call itself, beside the wait that is bounded. Without the bound
# a mutation would wait for as long as the rogue's stream lasts.
CALL_SECONDS: Final = 45 * LEASE_SECONDS
BEHAVIOURS: Final = (
    "never acknowledges",
    "acknowledges the future",
    "acknowledges backwards",
    "renews without pause",
    "says hello only",
    "says nothing",
    "reads nothing",
    "many streams",
)


class Rogue:
    """Streams that misbehave, on a channel of their own."""

    def __init__(self, target: str, token: str, behaviour: str) -> None:
        self._channel = grpc.aio.insecure_channel(target)
        self._sync = stubs.ReplicationServiceStub(self._channel).Sync
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._behaviour = behaviour
        self.leases = 0
        self.ended: list[grpc.StatusCode] = []
        count = 100 if behaviour == "many streams" else 1
        self._tasks = [asyncio.ensure_future(self._misbehave()) for _ in range(count)]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._channel.close()

    async def until_granted(self) -> None:
        async with asyncio.timeout(20):
            while self.leases < len(self._tasks):  # noqa: ASYNC110 - a count, and no event
                await asyncio.sleep(0.01)

    async def _misbehave(self) -> None:
        call = self._sync(metadata=self._metadata)
        hello = messages.Hello(holder_id=secrets.token_hex(16), display_name="rogue")
        reading = asyncio.ensure_future(self._read(call))
        try:
            if self._behaviour != "says nothing":
                await call.write(messages.SyncRequest(hello=hello))
            nonce = 0
            while self._behaviour not in ("says nothing", "says hello only"):
                nonce += 1
                applied = {"acknowledges the future": 2**60, "acknowledges backwards": -nonce}
                await call.write(
                    messages.SyncRequest(
                        renew=messages.Renew(
                            nonce=nonce, applied_revision=applied.get(self._behaviour, 0)
                        )
                    )
                )
                pause = 0 if self._behaviour == "renews without pause" else LEASE_SECONDS / 3
                await asyncio.sleep(pause)
            await reading
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass
        finally:
            reading.cancel()
            if call.done():
                self.ended.append(await call.code())

    async def _read(self, call: grpc.aio.StreamStreamCall) -> None:  # type: ignore[type-arg]
        if self._behaviour == "reads nothing":
            await asyncio.Event().wait()
        async for response in call:
            self.leases += response.HasField("lease")


class House:
    """A server, and a sidecar behind it."""

    def __init__(self, targets: dict[str, str], root: AsyncClient) -> None:
        self.targets = targets
        self.root = root

    async def change(self) -> float:
        """Makes a mutation that every holder has to acknowledge. Says how long it took."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self.root.create_key(
            keyspace="torture", account_id="acct_1", scopes=["vps:read"], timeout_seconds=60
        )
        return loop.time() - began

    async def rogue(self, behaviour: str, through: str) -> Rogue:
        """A rogue with a credential of its own, since each credential's streams are limited."""
        made = await self.root.create_key(
            keyspace="system",
            account_id="rogue",
            scopes=["replication:sync"],
            bound_keyspaces=["torture"],
        )
        return Rogue(self.targets[through], made.api_key, behaviour)


@pytest.fixture(scope="module", params=["alone", "among others"])
def database(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Any]]:
    """The settings of a server that has its SQLite file to itself, or shares a PostgreSQL."""
    if request.param == "alone":
        yield {}
        return
    postgres: PostgresServer = request.getfixturevalue("postgres_server")
    name = postgres.create_database(template=request.getfixturevalue("postgres_template"))
    yield {"database_url": postgres.url(name), "session_key": SESSION_KEY}
    postgres.drop_database(name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(database: Mapping[str, Any]) -> AsyncIterator[House]:
    """A server and a sidecar for all behaviours: what one rogue leaves behind ends with its
    lease, and delays the mutations of the next test no longer than the bound allows."""
    root = new_root_credential().reveal()
    settings: dict[str, Any] = {
        "root_key": root,
        "lease_seconds": LEASE_SECONDS,
        "pepper": PEPPER,
        **database,
    }
    async with AsyncExitStack() as stack:
        # A socket's path must be short, and pytest's directories are not.
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="kf")))
        targets = {name: f"unix:{directory}/{name}.sock" for name in ("server", "sidecar")}
        upstream: dict[str, Any] = {"upstream": targets["server"], "upstream_token": root}
        for name, more in (("server", settings), ("sidecar", upstream)):
            served = await start_for_test(directory / name, listen=targets[name], **more)
            stack.push_async_callback(served.server.stop)
            stack.push_async_callback(served.client.channel.close)
        client = await stack.enter_async_context(AsyncClient(targets["server"], token=root))
        await client.apply_keyspace(declaration(implies=True))
        yield House(targets, client)


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("through", ["server", "sidecar"])
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
async def test_mutations_stay_within_the_bound(house: House, behaviour: str, through: str) -> None:
    rogue = await house.rogue(behaviour, through)
    try:
        if behaviour in ("never acknowledges", "many streams"):
            await rogue.until_granted()
        for _ in range(4):
            took = await house.change()
            assert took < TERMS.wait + CALL_SECONDS
    finally:
        await rogue.close()


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
async def test_a_holder_that_never_acknowledges_is_cut_off_and_mutations_are_fast_again(
    house: House,
) -> None:
    rogue = await house.rogue("never acknowledges", "server")
    try:
        await rogue.until_granted()
        async with asyncio.timeout(60):
            while not rogue.ended:
                await house.change()
        assert rogue.ended == [grpc.StatusCode.RESOURCE_EXHAUSTED]
        # Whatever it was granted last has expired by then.
        await asyncio.sleep(TERMS.wait)
        assert min([await house.change() for _ in range(3)]) < TERMS.wait / 2
    finally:
        await rogue.close()
