"""docs/tutorials/from-one-process-to-three-machines.md works as it stands: a PostgreSQL, a Redis,
three servers over TLS, two sidecars and the metrics of the dashboard."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from docs.pages import blocks, read, section
from docs.terminals import Terminals, free_port
from support.redis import RedisServer
from tools import dashboard

PAGE: Final = read("docs/tutorials/from-one-process-to-three-machines.md")
PORTS: Final = ("50051", "50052", "50053", "9461", "9462", "9463")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.postgres,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="the page needs openssl"),
]


def commands(heading: str) -> list[str]:
    """The blocks of commands under a heading of the page."""
    return blocks(section(PAGE, heading), "sh")


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def terminals(tmp_path: Path, redis: RedisServer, empty_postgres_url: str) -> Iterator[Terminals]:
    """What would be installed is there already, and what would run on known ports elsewhere."""
    ports = {port: str(free_port()) for port in PORTS}
    replaced = {
        "postgresql://keyfence@localhost/keyfence": empty_postgres_url,
        "redis://localhost:6379/0": redis.url,
        **ports,
    }
    alone = f"127.0.0.1:{ports['50051']}"
    variables = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        # Where the page leaves the defaults.
        "KEYFENCE_LISTEN": alone,
        "KEYFENCE_TARGET": alone,
    }
    running = Terminals(tmp_path, replaced, variables)
    yield running
    running.stop()


def test_the_page_is_played_from_its_first_to_its_last_command(terminals: Terminals) -> None:
    serve, first_key = commands("## 1. One process")
    terminals.leave_running(serve, "127.0.0.1:50051")
    assert "allowed" in terminals.paste(first_key)
    terminals.interrupt_last()

    secrets, certificates, tables = commands("## 2. The database and the secrets")
    for script in (secrets, certificates):
        terminals.paste(script)
    assert terminals.paste(tables).endswith("ready to serve\n")

    *servers, replicas, across, limits = commands("## 3. Three servers")
    for port, script in zip(PORTS, servers, strict=False):
        terminals.leave_running(script, f"127.0.0.1:{port}")
    assert terminals.paste(replicas).count(" server ") == 3
    said = terminals.paste(across)
    assert "allowed" in said
    assert said.endswith("denied everywhere\n")
    assert terminals.paste(limits).endswith("limited everywhere\n")

    tokens, *sidecars, fenced = commands("## 4. Two sidecars")
    terminals.paste(tokens)
    for name, script in zip(("host-1", "host-2"), sidecars, strict=True):
        terminals.leave_running(script, f"three/{name}.sock")
    said = terminals.paste(fenced)
    assert said.count("allowed") == 2
    assert said.endswith("denied at host 2\n")
    assert "denied at host 1\n" in said

    (look,) = commands("## 5. The dashboard")
    shown = terminals.paste(look)
    asked = {
        name
        for panel in dashboard.dashboard()["panels"]
        for target in panel.get("targets", ())
        for name in re.findall(r"\bkeyfence_[a-z_]+", target["expr"])
    }
    names = {re.sub("_(bucket|count|sum)$", "", name) for name in asked}
    assert len(names) > 10
    assert names <= set(re.findall(r"^# TYPE (\w+) ", shown, re.MULTILINE))
