"""Two servers on one database, a sidecar of the second, and a cache behind each."""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from fence.torture.writer import declaration
from keyfence import AsyncClient, Cache
from keyfence_server.application.first_start import new_root_credential
from keyfence_server.composition.server import RunningServer
from keyfence_server.telemetry.logs import configure_logs
from support.serving import Served, start_for_test
from testkit.links import Links
from testkit.proxy import Mode

PEPPER = "1:" + "A" * 44
SESSION_KEY = "1:" + "A" * 43 + "="
LEASE_SECONDS = 1.0
CHECK_TIMEOUT_SECONDS = 20.0
"""How long a client waits for an answer. All servers run in one process here. If the machine stops
it for longer than a lease, each server needs a new lease before it can answer."""


@pytest.fixture(autouse=True)
def log() -> Iterator[io.StringIO]:
    """What the servers log, as they do in production: pretty tracebacks take seconds."""
    stream = io.StringIO()
    configure_logs("json", "info", stream)
    yield stream
    structlog.reset_defaults()


@dataclass
class Together:
    """Everyone who answers.

    Attributes:
        here: asks the first server, past any cache.
        holders: everyone, by name; each caches by itself or stands for what caches.
    """

    root: str
    here: AsyncClient
    holders: dict[str, AsyncClient]
    servers: dict[str, RunningServer]

    async def warm(self, api_key: str) -> None:
        """Has everyone know the key, from memory where there is one."""
        for client in self.holders.values():
            async with asyncio.timeout(20):
                while True:
                    await client.authenticate(api_key)
                    status = client.cache_status()
                    if status is None or (status.is_live and status.keys):
                        break
                    await asyncio.sleep(0.02)

    async def answers(self, api_key: str, *scopes: str) -> dict[str, bool]:
        """What everyone says."""
        asked = scopes or ("vps:read",)
        results = await asyncio.gather(
            *(client.check_scope(api_key, *asked) for client in self.holders.values())
        )
        return {name: one.allowed for name, one in zip(self.holders, results, strict=True)}


Assemble = Callable[..., Awaitable[Together]]


@pytest.fixture
async def assemble(tmp_path: Path) -> AsyncIterator[Assemble]:
    """Starts everyone on a database."""
    async with AsyncExitStack() as stack:

        async def start(name: str, **settings: Any) -> Served:
            listen = f"unix:{tmp_path}/{name}.sock"
            served = await start_for_test(tmp_path / name, listen=listen, **settings)
            stack.push_async_callback(served.server.stop)
            stack.push_async_callback(served.client.channel.close)
            return served

        async def assemble(url: str, **more: Any) -> Together:
            root = new_root_credential().reveal()
            own = {
                "database_url": url,
                "pepper": PEPPER,
                "session_key": SESSION_KEY,
                "root_key": root,
                "lease_seconds": LEASE_SECONDS,
                **more,
            }
            servers = {
                "one": (await start("one", **own)).server,
                "two": (await start("two", **own)).server,
                "sidecar": (
                    await start(
                        "sidecar", upstream=f"unix:{tmp_path}/two.sock", upstream_token=root
                    )
                ).server,
            }
            holders = {}
            for name, whom, cache in (
                ("one", "one", None),
                ("two", "two", None),
                ("sidecar", "sidecar", None),
                ("cache at one", "one", Cache()),
                ("cache at the sidecar", "sidecar", Cache()),
            ):
                holders[name] = await stack.enter_async_context(
                    AsyncClient(
                        f"unix:{tmp_path}/{whom}.sock",
                        token=root,
                        cache=cache,
                        check_timeout_seconds=CHECK_TIMEOUT_SECONDS,
                    )
                )
            await holders["one"].apply_keyspace(declaration(implies=True))
            return Together(root, holders["one"], holders, servers)

        yield assemble


@pytest.fixture
async def together(assemble: Assemble, postgres_url: str) -> Together:
    """Everyone, on a database that stays."""
    return await assemble(postgres_url)


@dataclass
class DistantDatabase:
    """A database that can be out of reach: connections are reset, and new ones too.

    Attributes:
        url: the way that can be cut.
    """

    url: str
    _links: Links

    def go_away(self) -> None:
        """From now on."""
        self._links.set("database", Mode.CUT)

    def come_back(self) -> None:
        """From now on."""
        self._links.set("database", Mode.WHOLE)


@pytest.fixture
def distant(postgres_url: str) -> Iterator[DistantDatabase]:
    """A database far away."""
    rest, _, host = postgres_url.partition("?host=")
    with tempfile.TemporaryDirectory(prefix="kf-") as directory:
        ends = (f"{directory}/.s.PGSQL.5432", f"{host}/.s.PGSQL.5432")
        with Links({"database": ends}) as links:
            yield DistantDatabase(f"{rest}?host={directory}", links)
