"""Everyone who answers checks, asked with one credential, and the truth to compare with.

The servers are shared: each test has keys of its own, and leaves the keyspaces as they were.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import pytest_asyncio
import structlog

from fence.parity.kinds import REACHED, keyspace
from fence.parity.questions import (
    QUESTIONS,
    Answer,
    Question,
    ask,
    ask_in_batch,
)
from fence.parity.truth import Truth
from keyfence import AsyncClient, Cache
from keyfence_server.adapters.files.secret_lines import parse_peppers
from keyfence_server.adapters.sql import open_store
from keyfence_server.application.first_start import new_root_credential
from keyfence_server.telemetry.logs import configure_logs
from support.serving import Served, start_for_test
from testkit.postgres import PostgresServer

PEPPER = "1:" + "A" * 44
LEASE_SECONDS = 20
"""No holder is to lose its lease here, however busy the machine is: it would give no answer."""

NO_ANSWER = {"error": "STORE_UNAVAILABLE"}
MOST_REPEATS = 20
"""A sidecar fails closed if its server takes longer than a second, as it may on a busy machine.
That is no answer, so it is asked again. One that never answers still disagrees."""

IN_BATCH = {name: one for name, one in QUESTIONS.items() if one.scopes is not None}
FIRST_QUESTION = dict(list(QUESTIONS.items())[:1])


@pytest.fixture(scope="module", autouse=True)
def log() -> Iterator[None]:
    """Logs as in production: pretty tracebacks take seconds."""
    configure_logs("json", "info", io.StringIO())
    yield
    structlog.reset_defaults()


@dataclass
class Everyone:
    """The holders by name, and the truth.

    Attributes:
        operator: a client that makes changes, past any cache.
        asked_alone: the questions that each have a call of their own, besides those in a batch.
    """

    truth: Truth
    operator: AsyncClient
    clients: dict[str, AsyncClient]
    asked_alone: Mapping[str, Question]

    async def warm(self, api_key: str) -> None:
        """Returns when everyone who can answer from memory does, if the key can be known."""
        async with asyncio.timeout(30):
            for client in self.clients.values():
                while (status := client.cache_status()) is not None and not status.is_live:
                    await client.check_scope(api_key, "vps:read", keyspace="main")
                    await asyncio.sleep(0.02)

    async def head(self) -> int:
        """The last change."""
        return (await self.operator.who_am_i()).revision

    async def disagreements(self, api_key: str, head: int) -> list[str]:
        """Who answers what differently, in words."""
        true = await self.truth.ask(api_key, QUESTIONS, head)
        found = await asyncio.gather(
            *(self._of_one(client, api_key, head) for client in self.clients.values())
        )
        return [
            f"{who}, {name}: {answer} and not {true[name.removesuffix(', in a batch')]}"
            for who, answers in zip(self.clients, found, strict=True)
            for name, answer in answers.items()
            if answer != true[name.removesuffix(", in a batch")]
        ]

    async def _of_one(self, client: AsyncClient, api_key: str, head: int) -> dict[str, Answer]:
        answers = await self._answers(client, api_key, head)
        for _ in range(MOST_REPEATS):
            if NO_ANSWER not in answers.values():
                break
            await asyncio.sleep(0.2)
            answers = await self._answers(client, api_key, head)
        return answers

    async def _answers(self, client: AsyncClient, api_key: str, head: int) -> dict[str, Answer]:
        answers = {
            name: await ask(client, api_key, one, head) for name, one in self.asked_alone.items()
        }
        batch = await ask_in_batch(client, api_key, IN_BATCH, head)
        return answers | {f"{name}, in a batch": answer for name, answer in batch.items()}


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]
)
def shared_database_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of a fresh database, with tables: the tests run on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('parity') / 'store.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.create_database(template=request.getfixturevalue("postgres_template"))
    yield server.url(name)
    server.drop_database(name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def everyone(shared_database_url: str, log: None) -> AsyncIterator[Everyone]:
    """A server in process, one that is called, a sidecar, and a cache at each of the two. On
    PostgreSQL the changes are made at another server than the one that is asked. No answer is
    worked out from the store, so most questions are asked there in a batch alone."""
    root = new_root_credential().reveal()
    async with AsyncExitStack() as stack:
        # A socket's path must be short, and pytest's directories are not.
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="kf")))

        async def start(name: str, **settings: Any) -> Served:
            listen = f"unix:{directory}/{name}.sock"
            served = await start_for_test(directory / name, listen=listen, **settings)
            stack.push_async_callback(served.server.stop)
            stack.push_async_callback(served.client.channel.close)
            return served

        async def client(whom: str, token: str, cache: Cache | None = None) -> AsyncClient:
            target = f"unix:{directory}/{whom}.sock"
            return await stack.enter_async_context(
                AsyncClient(
                    target, token=token, cache=cache, check_timeout_seconds=30, timeout_seconds=30
                )
            )

        own = {
            "database_url": shared_database_url,
            "pepper": PEPPER,
            "root_key": root,
            "lease_seconds": LEASE_SECONDS,
        }
        await start("server", **own)
        is_on_postgresql = shared_database_url.startswith("postgresql")
        if is_on_postgresql:
            await start("other", **own)
        operator = await client("other" if is_on_postgresql else "server", root)
        for name in (*REACHED, "foreign"):
            await operator.apply_keyspace(keyspace(name))
        asking = await operator.create_key(
            keyspace="system",
            account_id="gateway",
            scopes=["keys:check", "replication:sync"],
            bound_keyspaces=REACHED,
        )
        await start(
            "sidecar", upstream=f"unix:{directory}/server.sock", upstream_token=asking.api_key
        )
        store = await open_store(shared_database_url)
        stack.push_async_callback(store.close)
        yield Everyone(
            Truth(store, parse_peppers(PEPPER), asking.api_key),
            operator,
            {
                "the server": await client("server", asking.api_key),
                "the sidecar": await client("sidecar", asking.api_key),
                "a cache at the server": await client("server", asking.api_key, Cache()),
                "a cache at the sidecar": await client("sidecar", asking.api_key, Cache()),
            },
            FIRST_QUESTION if is_on_postgresql else QUESTIONS,
        )
