"""A server of the test's own, started as `keyfence serve` starts it, but for the clock."""

from __future__ import annotations

import base64
import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator
from io import StringIO
from pathlib import Path

import pytest
import structlog
from pydantic import SecretStr

from keyfence_server.composition.server import start
from keyfence_server.config import Settings
from keyfence_server.telemetry.logs import configure_logs
from support.clock import FrozenClock
from support.serving import prepare_data_dir
from support.systems import Authority


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the developer's own environment."""
    for name in list(os.environ):
        if name.startswith("KEYFENCE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def log() -> Iterator[StringIO]:
    """Everything that the process logs, down to the last detail."""
    root = logging.getLogger()
    handlers, level, hook = root.handlers, root.level, sys.excepthook
    stream = StringIO()
    configure_logs("json", "debug", stream)
    yield stream
    root.handlers, sys.excepthook = handlers, hook
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
async def authority(tmp_path: Path, clock: FrozenClock, log: StringIO) -> AsyncIterator[Authority]:
    """A server with an empty store, and its operator."""
    data_dir = tmp_path / "data"
    prepare_data_dir(data_dir)
    server = await start(Settings(listen="127.0.0.1:0", data_dir=data_dir), clock=clock)
    running = Authority(server, data_dir, log)
    yield running
    await running.close()


@pytest.fixture
async def authority_on_postgresql(
    tmp_path: Path, clock: FrozenClock, log: StringIO, postgres_url: str
) -> AsyncIterator[Authority]:
    """The same, on PostgreSQL."""
    data_dir = tmp_path / "data"
    settings = Settings(
        listen="127.0.0.1:0",
        data_dir=data_dir,
        database_url=SecretStr(postgres_url),
        pepper=SecretStr(f"1:{base64.b64encode(bytes(range(32))).decode()}"),
    )
    running = Authority(await start(settings, clock=clock), data_dir, log)
    yield running
    await running.close()
