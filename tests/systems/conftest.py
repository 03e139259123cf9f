"""A server of the test's own, started as `keyfence serve` starts it, but for the clock."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator
from io import StringIO
from pathlib import Path

import pytest
import structlog

from keyfence_server.bootstrap import start
from keyfence_server.config import Settings
from keyfence_server.telemetry.logs import LogFormat, LogLevel, configure_logs
from support.clock import FrozenClock
from support.systems import Authority


@pytest.fixture
def log() -> Iterator[StringIO]:
    """Everything that the process logs, down to the last detail."""
    root = logging.getLogger()
    handlers, level, hook = root.handlers, root.level, sys.excepthook
    stream = StringIO()
    configure_logs(LogFormat.JSON, LogLevel.DEBUG, stream)
    yield stream
    root.handlers, sys.excepthook = handlers, hook
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
async def authority(
    tmp_path: Path, clock: FrozenClock, log: StringIO, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Authority]:
    """A server with an empty store, and its operator."""
    for name in list(os.environ):
        if name.startswith("KEYFENCE_"):
            monkeypatch.delenv(name)
    data_dir = tmp_path / "data"
    server = await start(Settings(listen="127.0.0.1:0", data_dir=data_dir), clock=clock)
    running = Authority(server, data_dir, log)
    yield running
    await running.close()
