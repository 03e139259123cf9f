"""A client opens at its first call, closes once and for all, and stays where it was opened."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest

from clients.python.tests.authority import Authority, Hang
from clients.python.tests.conftest import Caller
from keyfence import AsyncClient, Client, ClientClosed


async def test_a_closed_client_says_so(call: Caller) -> None:
    await call("who_am_i")
    await call("close")
    await call("close")
    with pytest.raises(ClientClosed):
        await call("who_am_i")


async def test_a_client_that_was_never_used_closes(kind: Any) -> None:
    caller = Caller(kind, "127.0.0.1:1")
    await caller("close")
    with pytest.raises(ClientClosed):
        await caller("who_am_i")


async def test_closing_ends_the_calls_under_way(call: Caller, authority: Authority) -> None:
    authority.answer("GetKey", Hang())
    under_way = asyncio.create_task(call("get_key", "key_1"))
    await authority.has_hung.wait()
    await call("close")
    with pytest.raises(ClientClosed):
        await under_way


async def test_a_cancelled_task_is_cancelled_and_not_an_error(authority: Authority) -> None:
    authority.answer("GetKey", Hang())
    async with AsyncClient(authority.target) as client:
        under_way = asyncio.create_task(client.get_key("key_1"))
        await authority.has_hung.wait()
        under_way.cancel()
        with pytest.raises(asyncio.CancelledError):
            await under_way


async def test_leaving_the_context_closes(authority: Authority) -> None:
    async with AsyncClient(authority.target) as client:
        await client.who_am_i()
    with pytest.raises(ClientClosed):
        await client.who_am_i()

    def use() -> Client:
        with Client(authority.target) as client:
            client.who_am_i()
        return client

    closed = await asyncio.to_thread(use)
    with pytest.raises(ClientClosed):
        closed.who_am_i()


async def test_a_client_may_be_made_outside_of_an_event_loop(authority: Authority) -> None:
    made: list[AsyncClient] = []
    thread = threading.Thread(target=lambda: made.append(AsyncClient(authority.target)))
    thread.start()
    thread.join()
    async with made[0] as client:
        assert await client.check_scope("k", "a:b")


async def test_another_event_loop_is_refused(authority: Authority) -> None:
    """gRPC would wait for ever there."""
    async with AsyncClient(authority.target) as client:
        await client.who_am_i()
        with pytest.raises(ClientClosed, match="event loop"):
            await asyncio.to_thread(asyncio.run, _who_am_i(client))


async def _who_am_i(client: AsyncClient) -> None:
    await client.who_am_i()


async def test_one_client_serves_many_threads(authority: Authority) -> None:
    with Client(authority.target) as client:
        answers = await asyncio.gather(
            *(asyncio.to_thread(client.get_key, f"key_{n}") for n in range(50))
        )
    assert [key.key_id for key in answers] == [f"key_{n}" for n in range(50)]


FORK = """
    import os
    from keyfence import Client, ClientClosed

    used, unused = Client(), Client()
    used.who_am_i()
    child = os.fork()
    if child == 0:
        try:
            used.who_am_i()
        except ClientClosed as error:
            os.write(1, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    used.who_am_i()
    used.close()
"""


async def test_a_client_that_was_used_before_a_fork_refuses_in_the_child(
    authority: Authority,
) -> None:
    """gRPC's threads do not survive a fork: the call would never return."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(FORK),
        env={"KEYFENCE_TARGET": authority.target},
        stdout=subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), timeout=60)
    assert process.returncode == 0
    assert b"fork" in output
    assert len(authority.attempts) == 2
