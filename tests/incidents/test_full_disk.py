"""The disk of the database is full: nothing is half made, and the server heals by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from incidents.conftest import Host, eventually
from support.served import COMMAND


@pytest.fixture
def small_disk(host: Host) -> tuple[str, ...]:
    """What runs a command with 8 MiB for its data directory, which only it sees."""
    data = host.directory / "data"
    data.mkdir(mode=0o700)
    mount = f"mount -t tmpfs -o size=8m,mode=0700 none {data}"
    return ("unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh", *COMMAND)


@pytest.mark.slow
def test_a_full_disk_refuses_changes_and_answers_checks_until_there_is_room(
    host: Host, small_disk: tuple[str, ...]
) -> None:
    root = host.run("root-key").stdout.strip()
    server = host.start({"KEYFENCE_ROOT_KEY": root}, command=small_disk)
    operator = {"KEYFENCE_TOKEN": root}
    (host.directory / "demo.yaml").write_text("keyspace: demo\nscopes:\n  vps:read: Look\n")
    host.run("keyspaces", "apply", "-f", "demo.yaml", more=operator)
    create = ("keys", "create", "-k", "demo", "-a", "acme", "-s", "vps:read", "-q")
    api_key = host.run(*create, more=operator).stdout

    filler = Path(f"/proc/{server.pid}/root{host.directory}/data/filler")
    _fill(filler)
    refused = host.run(*create, more=operator, expect=6)
    assert "the store cannot be reached; nothing was answered from it" in refused.stderr
    assert '"disk_full"' in server.wait_for("store_unavailable")
    not_ready = (503, "the database is unavailable: disk_full\n")
    eventually(lambda: server.get("/readyz") == not_ready, "not ready")
    assert server.get("/livez")[0] == 200
    # It is in memory, and nothing can have changed.
    host.run("check", "-", "-k", "demo", stdin=api_key, more=operator)

    filler.unlink()
    server.wait_for("store_available")
    eventually(lambda: server.get("/readyz")[0] == 200, "ready")
    host.run(*create, more=operator)
    host.run("audit", "verify", more=operator)
    events = [line for line in server.output.splitlines() if "store_unavailable" in line]
    assert len(events) < 5, "one line a change of state, and one a minute"


def _fill(file: Path) -> None:
    with file.open("wb", buffering=0) as opened:
        for size in (65_536, 512):
            try:
                while True:
                    opened.write(bytes(size))
            except OSError:
                continue
