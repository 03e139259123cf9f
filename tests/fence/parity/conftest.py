"""Everyone who answers checks, asked with one credential, and the truth to compare with."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from fence.parity.kinds import REACHED, keyspace
from fence.parity.questions import (
    QUESTIONS,
    Answer,
    ask,
    ask_in_batch,
)
from fence.parity.truth import Truth
from keyfence import AsyncClient, Cache
from keyfence_server.adapters.files.peppers import parse_peppers
from keyfence_server.adapters.sql import open_store
from keyfence_server.application.first_start import new_root_credential
from keyfence_server.telemetry.logs import LogFormat, LogLevel, configure_logs
from support.serving import Served, start_for_test

PEPPER = "1:" + "A" * 44

IN_BATCH = {name: one for name, one in QUESTIONS.items() if one.scopes is not None}


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    """Logs as in production: pretty tracebacks take seconds."""
    configure_logs(LogFormat.JSON, LogLevel.INFO, io.StringIO())
    yield
    structlog.reset_defaults()


@dataclass
class Everyone:
    """Whoever answers, by its name, and the truth.

    Attributes:
        operator: changes things, past any cache.
    """

    truth: Truth
    operator: AsyncClient
    clients: dict[str, AsyncClient]

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
        answers = {name: await ask(client, api_key, one, head) for name, one in QUESTIONS.items()}
        batch = await ask_in_batch(client, api_key, IN_BATCH, head)
        return answers | {f"{name}, in a batch": answer for name, answer in batch.items()}


@pytest.fixture
async def everyone(database_url: str, tmp_path: Path) -> AsyncIterator[Everyone]:
    """A server in process, one that is called, a sidecar, and a cache at each of the two. On
    PostgreSQL the changes are made at another server than the one that is asked."""
    root = new_root_credential().reveal()
    async with AsyncExitStack() as stack:

        async def start(name: str, **settings: Any) -> Served:
            listen = f"unix:{tmp_path}/{name}.sock"
            served = await start_for_test(tmp_path / name, listen=listen, **settings)
            stack.push_async_callback(served.server.stop)
            stack.push_async_callback(served.client.channel.close)
            return served

        async def client(whom: str, token: str, cache: Cache | None = None) -> AsyncClient:
            target = f"unix:{tmp_path}/{whom}.sock"
            return await stack.enter_async_context(
                AsyncClient(
                    target, token=token, cache=cache, check_timeout_seconds=30, timeout_seconds=30
                )
            )

        own = {"database_url": database_url, "pepper": PEPPER, "root_key": root}
        await start("server", **own)
        if database_url.startswith("postgresql"):
            await start("other", **own)
        operator = await client("other" if (tmp_path / "other").exists() else "server", root)
        for name in (*REACHED, "foreign"):
            await operator.apply_keyspace(keyspace(name))
        asking = await operator.create_key(
            keyspace="system",
            account_id="gateway",
            scopes=["keys:check", "replication:sync"],
            bound_keyspaces=REACHED,
        )
        await start(
            "sidecar", upstream=f"unix:{tmp_path}/server.sock", upstream_token=asking.api_key
        )
        store = await open_store(database_url)
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
        )
