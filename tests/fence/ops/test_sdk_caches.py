"""The cache inside a client of a real server: forks, uses, and how it is closed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest

from keyfence import AsyncClient, Cache, CacheStatus, Client, CreatedKey
from keyfence.holder import background, reporting
from support.served import Served, environment_without_settings

EXAMPLES: Final = Path(__file__).parents[3] / "examples" / "keyspaces"
PATIENCE_SECONDS: Final = 60


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with TemporaryDirectory(prefix="kf") as directory:
        served = Served(
            Path(directory),
            {
                "KEYFENCE_BOOTSTRAP_KEYSPACES": str(EXAMPLES / "demo.yaml"),
                "KEYFENCE_USAGE_FLUSH_SECONDS": "0.1",
            },
        )
        try:
            yield served
        finally:
            served.stop()


@pytest.fixture
def operator(server: Served) -> Iterator[Client]:
    with Client(server.target, token=server.root_key, check_timeout_seconds=20) as client:
        yield client


@pytest.fixture
def made(operator: Client) -> CreatedKey:
    return operator.create_key(keyspace="demo", account_id="acct_1", scopes=["vps:read"])


def cached(server: Served, kind: Any = Client) -> Any:
    return kind(server.target, token=server.root_key, cache=Cache(), check_timeout_seconds=20)


def status(client: Client | AsyncClient) -> CacheStatus:
    found = client.cache_status()
    assert found is not None
    return found


def warm(client: Client, api_key: str) -> int:
    """Checks until the key is known, and says how many checks that took."""
    end = time.monotonic() + PATIENCE_SECONDS
    for count in range(1, 1_000_000):
        assert client.check_scope(api_key, "vps:read")
        if status(client).hits:
            return count
        assert time.monotonic() < end
        time.sleep(0.01)
    raise AssertionError


def until_used(operator: Client, key_id: str, count: int) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while (used := operator.get_key(key_id).use_count) != count:
        assert time.monotonic() < end, used
        time.sleep(0.02)


# --- forks -------------------------------------------------------------------------------

FORKS = """
    import asyncio, logging, os, sys, threading, time
    from keyfence import AsyncClient, Cache, Client, ClientClosed

    HOW, KEY = sys.argv[1:]
    FORKS = 30

    def client(kind=Client):
        return kind(cache=Cache(), check_timeout_seconds=20)

    def is_warm(client, hits):
        status = client.cache_status()
        return status.is_live and status.hits > hits

    def begins_with_nothing(client):
        status = client.cache_status()
        return not (status.is_live or status.keys or status.applied_revision)

    def warm(client, hits=0):
        while not is_warm(client, hits):
            assert client.check_scope(KEY, "vps:read")
            time.sleep(0.01)

    def child(number, used, unused):
        assert begins_with_nothing(used) and begins_with_nothing(unused)
        if isinstance(used, Client):
            try:
                used.check_scope(KEY, "vps:read")
            except ClientClosed:
                pass
            else:
                raise AssertionError("answered")
            assert begins_with_nothing(used)
        if number % 7 == 0 and HOW != "asyncio":
            # Its connection is the child's own, and so is its lease.
            warm(unused)
            assert unused.cache_status().hits < 3
            unused.close()

    def fork(number, used, unused):
        child_id = os.fork()
        if child_id == 0:
            try:
                child(number, used, unused)
            except BaseException:
                logging.exception("in a child")
                os._exit(1)
            if number % 2 or HOW == "asyncio":
                os._exit(0)
            sys.exit(0)
        _, status = os.waitpid(child_id, 0)
        assert status == 0, status
        assert begins_with_nothing(used)

    def plain():
        used, unused = client(), client()
        for number in range(FORKS):
            warm(used, used.cache_status().hits)
            fork(number, used, unused)
        warm(used, used.cache_status().hits)
        used.close()

    def threads():
        used, unused = client(), client()
        forking, is_over = threading.Lock(), threading.Event()

        def ask():
            while not is_over.is_set():
                # gRPC does not bear forks while another thread is in a call.
                with forking:
                    used.check_scope(KEY, "vps:read")

        asking = [threading.Thread(target=ask) for _ in range(3)]
        for thread in asking:
            thread.start()
        for number in range(FORKS):
            hits = used.cache_status().hits
            while not is_warm(used, hits):
                time.sleep(0.01)
            with forking:
                fork(number, used, unused)
        is_over.set()
        for thread in asking:
            thread.join()
        used.close()

    async def aio():
        used, unused = client(AsyncClient), client(AsyncClient)
        for number in range(FORKS):
            hits = used.cache_status().hits
            while not is_warm(used, hits):
                assert await used.check_scope(KEY, "vps:read")
                await asyncio.sleep(0.01)
            fork(number, used, unused)
        await used.close()

    if HOW == "asyncio":
        asyncio.run(aio())
    else:
        {"plain": plain, "threads": threads}[HOW]()
    print("all is well")
"""


@pytest.mark.parametrize("how", ["plain", "threads", "asyncio"])
def test_a_process_with_a_live_cache_can_fork(server: Served, made: CreatedKey, how: str) -> None:
    """Each child ends as it should, and begins with nothing that its parent knew; the
    parent begins anew as well, and is answered from memory again."""
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORKS), how, made.api_key],
        env=environment_without_settings(
            {
                "KEYFENCE_TARGET": server.target,
                "KEYFENCE_TOKEN": server.root_key,
                "GRPC_VERBOSITY": "NONE",
            }
        ),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr[-5000:]
    assert "all is well" in ended.stdout


# --- uses --------------------------------------------------------------------------------


def test_what_was_answered_from_memory_shows_on_the_keys_record(
    server: Served, operator: Client, made: CreatedKey
) -> None:
    """Otherwise a key that is still used would look unused."""
    with cached(server) as client:
        count = warm(client, made.api_key)
        for _ in range(1_000):
            client.check_scope(made.api_key, "vps:read", client_address="192.0.2.1")
        assert status(client).hits > 1_000
    until_used(operator, made.key.key_id, count + 1_000)
    key = operator.get_key(made.key.key_id)
    assert key.last_used_address == "192.0.2.1"
    assert key.last_used_time is not None


def test_uses_are_reported_while_the_client_goes_on(
    server: Served, operator: Client, made: CreatedKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "REPORT_SECONDS", 0.05)
    with cached(server) as client:
        count = warm(client, made.api_key)
        until_used(operator, made.key.key_id, count)


# --- closing -----------------------------------------------------------------------------


async def test_closing_is_quiet_while_others_go_on(server: Served, made: CreatedKey) -> None:
    """gRPC wakes any event loop of the process for what has come for another one."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    def come_and_go() -> None:
        for _ in range(10):
            with cached(server) as client:
                warm(client, made.api_key)

    async with AsyncClient(server.target, token=server.root_key) as other:
        coming = [asyncio.create_task(asyncio.to_thread(come_and_go)) for _ in range(3)]
        while not all(task.done() for task in coming):
            await other.who_am_i(timeout_seconds=PATIENCE_SECONDS)
        await asyncio.gather(*coming)
    assert complaints == []


async def test_closing_does_not_hold_up_the_event_loop(
    server: Served, made: CreatedKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "_STOP_SECONDS", PATIENCE_SECONDS)
    asked, may_go_on = threading.Event(), threading.Event()
    has_gone_on: list[bool] = []

    def token() -> str:
        if threading.current_thread() is not threading.main_thread():
            asked.set()
            has_gone_on.append(may_go_on.wait(10))
        return server.root_key

    client = AsyncClient(server.target, token=token, cache=Cache())
    await client.check_scope(made.api_key, "vps:read", timeout_seconds=20)
    await asyncio.to_thread(asked.wait)
    closing = asyncio.create_task(client.close())
    await asyncio.sleep(0)
    may_go_on.set()
    await closing
    assert has_gone_on[0]
