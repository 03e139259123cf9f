"""An older database is noticed: at the start, and under a running server.

Without the guard, keys that were revoked since the backup would be valid again, silently.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from incidents.conftest import Host, eventually
from keyfence_server.adapters.files.high_water import HighWaterFile
from keyfence_server.application.high_water import Position
from support.clock import START

KEYSPACE = "keyspace: demo\nscopes:\n  vps:read: Look\n"


def prepare(host: Host) -> str:
    """A keyspace and a key's id."""
    (host.directory / "demo.yaml").write_text(KEYSPACE)
    host.run("keyspaces", "apply", "-f", "demo.yaml")
    made = host.run("keys", "create", "-k", "demo", "-a", "acme", "-s", "vps:read", "-o", "json")
    key_id: str = json.loads(made.stdout)["key"]["key_id"]
    return key_id


def copy_of(database: Path, copy: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    connection.close()


def put_back(copy: Path, database: Path) -> None:
    for file in database.parent.glob("keyfence.db*"):
        file.unlink()
    shutil.copy(copy, database)


@pytest.mark.slow
def test_a_server_does_not_start_on_an_older_database(host: Host) -> None:
    server = host.start()
    key_id = prepare(host)
    database, copy = host.directory / "data" / "keyfence.db", host.directory / "copy.db"
    copy_of(database, copy)
    host.run("keys", "revoke", key_id)
    server.stop()
    put_back(copy, database)

    refused = host.run("serve", expect=5)
    assert "so a backup was restored" in refused.stderr
    assert "Keys that were revoked since then are valid again" in refused.stderr
    mark = host.directory / "data" / "high-water"
    assert f"delete {mark}" in refused.stderr

    # As the message says.
    kept = mark.read_text()
    mark.unlink()
    server = host.start()
    # One that was restored and has changed since has as many revisions, and another history.
    for _ in range(3):
        host.run("keys", "create", "-k", "demo", "-a", "acme")
    server.stop()
    mark.write_text(kept)
    assert "the audit log differs" in host.run("serve", expect=5).stderr


@pytest.mark.slow
def test_the_database_of_a_clean_stop_and_of_a_kill_is_accepted(host: Host) -> None:
    server = host.start()
    prepare(host)
    server.stop()
    host.start().stop()


@pytest.mark.slow
def test_a_damaged_mark_is_named(host: Host) -> None:
    host.start().stop()
    (host.directory / "data" / "high-water").write_text("{")
    assert "high-water cannot be read" in host.run("serve", expect=5).stderr


@pytest.mark.slow
def test_a_database_that_goes_back_under_a_running_server_makes_it_unready(host: Host) -> None:
    """As when an administrator restores a dump into a PostgreSQL database in use."""
    server = host.start()
    key_id = prepare(host)
    database = host.directory / "data" / "keyfence.db"
    with sqlite3.connect(database) as connection:
        before = connection.execute("SELECT revision FROM head").fetchone()[0]
        host.run("keys", "revoke", key_id)
        mark = database.parent / "high-water"
        # A server that has just started has not written it yet.
        eventually(
            lambda: mark.exists() and json.loads(mark.read_text())["revision"] > before,
            "the mark follows",
        )
        connection.execute("UPDATE head SET revision = ?", (before,))
    server.wait_for("database_restored")
    eventually(lambda: server.get("/readyz")[0] == 503, "not ready")
    assert "so a backup was restored" in server.get("/readyz")[1]
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE head SET revision = ?", (before + 1,))
    connection.close()
    server.wait_for("database_current")
    eventually(lambda: server.get("/readyz")[0] == 200, "ready")


def test_a_mark_is_replaced_whole_and_is_private(tmp_path: Path) -> None:
    file = HighWaterFile(tmp_path / "high-water")
    assert file.read() is None
    for revision in (1, 2):
        position = Position(revision=revision, events=3, hash=b"\x00\xff", time=START)
        file.write(position)
        assert file.read() == position
    assert [path.name for path in tmp_path.iterdir()] == ["high-water"]
    assert file.path.stat().st_mode & 0o777 == 0o600
