"""`kill -9` of the real command: what its RPCs have answered is there, the rest is whole or
absent, and the next server lets pass whom it should.

`test_kill.py` kills the use cases, which is quick, more than a hundred times. Here an answer
goes all the way, through the fence and the socket, and the server is started again by
what a service manager would call.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import pytest

import keyfence
from crash.evidence import verify
from crash.load import AT_ONCE, Acknowledgement, mutate_for_ever
from crash.places import Place, Rpcs, verify_audit_log
from keyfence import errors
from keyfence.results import Authentication
from support.builders import KEYSPACE
from support.served import Served

pytestmark = pytest.mark.slow

ROUNDS = 5
LONGEST_SECONDS = 0.3
NO_KEY = "key_" + "0" * 26
MOST_REPEATS = 50


async def work_until_killed(
    server: Served, chance: random.Random, usable: list[str]
) -> list[Acknowledgement]:
    """Mutates keys by RPCs, kills the server in the middle of it, and tells what was
    answered until then."""
    acknowledged: list[Acknowledgement] = []
    is_working = asyncio.Event()

    def acknowledge(one: Acknowledgement) -> None:
        acknowledged.append(one)
        is_working.set()

    async with (
        keyfence.AsyncClient(server.target, token=server.root_key) as client,
        giving_up(server, chance),
    ):
        working = [
            asyncio.create_task(mutate_for_ever(Rpcs(client), usable, chance, acknowledge))
            for _ in range(AT_ONCE)
        ]
        async with asyncio.timeout(30):
            await is_working.wait()
        await asyncio.sleep(chance.uniform(0, LONGEST_SECONDS))
        os.kill(server.pid, signal.SIGKILL)
        # The client would go on to ask for what can be asked for again.
        for task in working:
            task.cancel()
        ended = await asyncio.gather(*working, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError | errors.Unavailable) for one in ended)
    return acknowledged


@asynccontextmanager
async def giving_up(server: Served, chance: random.Random) -> AsyncIterator[None]:
    """Callers that give up at every moment: a credential with an allow-list, which is read again
    inside the transaction, and log-ins. What they ask for changes nothing."""
    async with keyfence.AsyncClient(server.target, token=server.root_key) as operator:
        made = await operator.create_key(
            keyspace="system",
            account_id="operators",
            scopes=["keys:write"],
            bound_keyspaces=["*"],
            allowed_addresses=["127.0.0.0/8"],
        )

    async def revoke_and_give_up() -> None:
        async with keyfence.AsyncClient(
            server.tcp_target, token=made.api_key, insecure_plaintext=True
        ) as client:
            while True:
                with contextlib.suppress(keyfence.CallFailed):
                    await client.revoke_key(NO_KEY, timeout_seconds=chance.uniform(0.0005, 0.05))

    async def log_in_and_give_up() -> None:
        async with keyfence.AsyncClient(server.tcp_target, insecure_plaintext=True) as client:
            while True:
                with contextlib.suppress(keyfence.CallFailed):
                    await client.log_in(
                        KEYSPACE,
                        "ada@example.com",
                        "correct horse battery",
                        timeout_seconds=chance.uniform(0.0005, 0.05),
                    )

    tasks = [asyncio.create_task(work()) for work in (revoke_and_give_up, log_in_and_give_up)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def present_all(
    server: Served, states: dict[str, str], acknowledged: list[Acknowledgement]
) -> None:
    """Fails unless every key that was made passes or does not, as its record says."""
    async with keyfence.AsyncClient(server.target, token=server.root_key) as client:
        for one in acknowledged:
            if one.made:
                is_active = states[one.made] == "active"
                answer = await answered(
                    partial(client.authenticate, one.plaintext, keyspace=KEYSPACE)
                )
                assert answer.authenticated == is_active
                assert str(answer.reason) == ("OK" if is_active else "KEY_REVOKED")
                assert answer.principal is not None
                assert answer.principal.key_id == one.made


async def answered(ask: Callable[[], Awaitable[Authentication]]) -> Authentication:
    """Asks again if there is no answer. A server that cannot renew its lease in time, as on a busy
    machine, gives none."""
    for _ in range(MOST_REPEATS):
        with contextlib.suppress(keyfence.Unavailable):
            return await ask()
        await asyncio.sleep(0.2)
    return await ask()


@contextmanager
def served(directory: Path, settings: dict[str, str]) -> Iterator[Served]:
    """The server, started once more, at an address that no client knows to be dead."""
    socket = directory / f"{time.monotonic_ns()}.sock"
    server = Served(
        directory,
        {**settings, "KEYFENCE_LISTEN": f"unix:{socket},127.0.0.1:0"},
        target=f"unix:{socket}",
    )
    try:
        yield server
    finally:
        server.stop()


async def test_what_a_server_answered_is_there_after_it_was_killed(
    tmp_path: Path, place: Place
) -> None:
    chance = random.Random(7)
    acknowledged: list[Acknowledgement] = []
    states: dict[str, str] = {}
    for _ in range(ROUNDS):
        with served(tmp_path, place.settings) as server:
            await present_all(server, states, acknowledged)
            await verify_audit_log(server)
            usable = [one.made for one in acknowledged if states.get(one.made) == "active"]
            acknowledged += await work_until_killed(server, chance, usable)
        async with place.read(place.url) as query:
            states = await verify(query, acknowledged)
    with served(tmp_path, place.settings) as server:
        await present_all(server, states, acknowledged)
        await verify_audit_log(server)
