"""Callers give up at every moment of a mutation, and the server lives on.

A mutation goes on when its caller has gone. gRPC crashes when it is asked about a call that has
ended, so without its guard the server dies of SIGSEGV within the first few dozen of these calls.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import grpc
import pytest

import keyfence
from keyfence.v1 import account_service_pb2 as accounts
from keyfence.v1 import account_service_pb2_grpc as accounts_rpc
from keyfence.v1 import key_service_pb2 as keys
from keyfence.v1 import key_service_pb2_grpc as keys_rpc
from support.served import Served

ROOT = Path(__file__).parents[2]
KEYSPACES = [ROOT / "examples" / "keyspaces" / f"{name}.yaml" for name in ("xquik", "quantumsafe")]
CALLS = 150
LONGEST_SECONDS = 0.2
EMAIL, PASSWORD = "ada@example.com", "correct horse battery"

Call = Callable[[float], Awaitable[object]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    """A server process; one that a signal has ended fails the test when it is stopped."""
    served = Served(
        tmp_path,
        {
            # An allow-list needs an address, which a Unix socket has not.
            "KEYFENCE_LISTEN": f"unix:{tmp_path}/s,127.0.0.1:0",
            "KEYFENCE_BOOTSTRAP_KEYSPACES": ",".join(map(str, KEYSPACES)),
            # Each log-in comes from an address of its own, so that none is throttled.
            "KEYFENCE_TRUSTED_PROXIES": "127.0.0.1",
            "KEYFENCE_PASSWORD_MEMORY_MIB": "8",
            "KEYFENCE_PASSWORD_PASSES": "1",
        },
        target=f"unix:{tmp_path}/s",
    )
    yield served
    assert served.stop() == 0


async def give_up(call: Call) -> None:
    """Makes calls whose deadlines are over at random moments, a few at a time."""
    chance = random.Random(7)
    for _ in range(CALLS // 10):
        deadlines = [chance.uniform(0.0005, LONGEST_SECONDS) for _ in range(10)]
        await asyncio.gather(*map(call, deadlines), return_exceptions=True)


async def still_serves(server: Served) -> None:
    """Fails unless the server answers."""
    async with keyfence.AsyncClient(server.target, token=server.root_key) as client:
        assert await client.who_am_i()


async def test_by_a_key_with_an_allow_list(server: Served) -> None:
    """The key's address is read again inside the transaction, after the caller has gone."""
    async with keyfence.AsyncClient(server.target, token=server.root_key) as operator:
        made = await operator.create_key(
            keyspace="xquik", account_id="acct_1", allowed_addresses=["127.0.0.0/8"]
        )
    async with grpc.aio.insecure_channel(server.tcp_target) as channel:
        stub = keys_rpc.KeyServiceStub(channel)
        request = keys.CreateKeyRequest(keyspace="xquik", account_id="acct_1")
        bearer = (("authorization", f"Bearer {made.api_key}"),)
        await stub.CreateKey(request, metadata=bearer)

        async def create(deadline: float) -> object:
            return await stub.CreateKey(request, timeout=deadline, metadata=bearer)

        await give_up(create)
    await still_serves(server)


async def test_while_logging_in(server: Served) -> None:
    """The address of a log-in is noted after the password was hashed."""
    async with grpc.aio.insecure_channel(server.tcp_target) as channel:
        stub = accounts_rpc.AccountServiceStub(channel)
        await stub.RegisterAccount(
            accounts.RegisterAccountRequest(keyspace="quantumsafe", email=EMAIL, password=PASSWORD)
        )

        hosts = itertools.count(1)

        async def log_in(deadline: float) -> object:
            return await stub.LogIn(
                accounts.LogInRequest(keyspace="quantumsafe", email=EMAIL, password=PASSWORD),
                timeout=deadline,
                metadata=(("x-forwarded-for", f"192.0.2.{next(hosts)}"),),
            )

        await log_in(10.0)

        await give_up(log_in)
    await still_serves(server)
