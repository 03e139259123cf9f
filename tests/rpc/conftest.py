"""Servers for the tests of this directory."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import structlog

from keyfence_server.telemetry.logs import configure_logs
from support.serving import Served, start_for_test

Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that the process logs while the test runs, of every level."""
    stream = io.StringIO()
    configure_logs("json", "debug", stream)
    yield stream
    structlog.reset_defaults()


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Starts servers, and stops them when the test is over."""
    started: list[Served] = []

    async def serve(**arguments: Any) -> Served:
        served = await start_for_test(arguments.pop("data_dir", tmp_path / "data"), **arguments)
        started.append(served)
        return served

    yield serve
    for served in started:
        await served.client.channel.close()
        await served.server.stop()


@pytest.fixture
async def served(serve: Serve) -> Served:
    """A server with the keyspace `demo`."""
    served = await serve()
    await served.client.apply()
    return served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """One server with the keyspace `demo` for all tests of a module that do not mind the others.

    Such a test runs on the module's event loop: `@pytest.mark.asyncio(loop_scope="module")`.
    """
    served = await start_for_test(tmp_path_factory.mktemp("shared") / "data")
    await served.client.apply()
    yield served
    await served.client.channel.close()
    await served.server.stop()
