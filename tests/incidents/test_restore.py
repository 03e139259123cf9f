"""A restore that fails or is stopped leaves nothing that a server would use by mistake.

A backup without the revocations since, in place of the database, would accept revoked keys.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from incidents.conftest import Host
from incidents.test_backup import KEYSPACE, PEPPER, is_allowed, is_denied, make
from keyfence_server.adapters.files.high_water import HighWaterFile
from keyfence_server.adapters.sql import copies
from keyfence_server.adapters.sql.urls import parse_database_url, url_of_file
from keyfence_server.application.high_water import Position
from support.clock import START
from support.served import COMMAND, environment_without_settings
from testkit.postgres import PostgresServer

WRONG_LOG = {
    "events": [
        {
            "sequence": 1,
            "hash": "00" * 32,
            "time": "2026-01-01T00:00:00+00:00",
            "action": "key.revoke",
            "keyspace": "demo",
            "account_id": "",
            "subject": "key_1",
            "actor_id": "",
            "details": {},
        }
    ]
}


def revoke_after_a_backup(host: Host, more: dict[str, str] | None = None) -> tuple[str, str]:
    """A key that was revoked after the backup "copy". The server has stopped."""
    programs = {"PATH": more["PATH"]} if more else {}
    server = host.start({name: value for name, value in (more or {}).items() if name != "PATH"})
    (host.directory / "demo.yaml").write_text(KEYSPACE)
    host.run("keyspaces", "apply", "-f", "demo.yaml")
    revoked = make(host, "a")
    host.run("backup", "copy", more=programs)
    host.run("keys", "revoke", revoked[0])
    server.stop()
    return revoked


def content(data: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in data.iterdir() if path.name != "lock"}


def start_and_stop_a_restore(host: Host, number: signal.Signals, *arguments: str) -> int:
    """Sends a signal to a restore while it makes the changes again. Returns its exit code."""
    environment = {
        "KEYFENCE_DATA_DIR": str(host.directory / "data"),
        "TMPDIR": str(host.directory),
        **host.settings,
    }
    process = subprocess.Popen(
        [*COMMAND, "restore", "copy", *arguments],
        env=environment_without_settings(environment),
        cwd=host.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 60
    while not list(host.directory.glob("kf*/restore.sock")) and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.002)
    process.send_signal(number)
    return process.wait(60)


def credentials_of_restores(database: Path) -> list[str]:
    """The states of the credentials that restores have made."""
    with sqlite3.connect(database) as connection:
        found = connection.execute("SELECT state FROM keys WHERE display_name = 'Restore'")
        return [row[0] for row in found]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restore_that_is_stopped_leaves_the_old_database(
    host: Host, number: signal.Signals
) -> None:
    revoked = revoke_after_a_backup(host)
    data = host.directory / "data"
    before = content(data)

    code = start_and_stop_a_restore(host, number)
    assert code == (130 if number is signal.SIGTERM else -signal.SIGKILL)
    kept = {
        path.name: path.read_bytes()
        for path in data.iterdir()
        if path.is_file() and path.name != "lock"
    }
    assert {name: kept[name] for name in before} == before
    # A process that is killed cannot clean up; the next restore does.
    assert (data / "keyfence.db.restoring").exists() is (number is signal.SIGKILL)
    assert credentials_of_restores(data / "keyfence.db") == []
    host.start()
    is_denied(host, revoked[1])
    host.stop()

    host.run("restore", "copy")
    assert not (data / "keyfence.db.restoring").exists()
    assert credentials_of_restores(data / "keyfence.db") == ["revoked"]
    host.start()
    is_denied(host, revoked[1])


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_server_starts_on_postgresql_while_a_restore_has_not_finished(
    host: Host, postgres_server: PostgresServer, postgres_url: str, number: signal.Signals
) -> None:
    path = f"{postgres_server.binaries}:{os.environ['PATH']}"
    settings = {"KEYFENCE_DATABASE_URL": postgres_url, "KEYFENCE_PEPPER": PEPPER}
    revoke_after_a_backup(host, {**settings, "PATH": path})
    name = postgres_server.create_database()
    host.settings = {**settings, "KEYFENCE_DATABASE_URL": postgres_server.url(name), "PATH": path}
    assert start_and_stop_a_restore(host, number, "--changes", postgres_url) != 0
    # As a server on another machine, which has no high-water mark.
    elsewhere = {"KEYFENCE_DATA_DIR": str(host.directory / "elsewhere")}
    for command in (("serve",), ("serve", "--check")):
        refused = host.run(*command, more=elsewhere, expect=5)
        assert "a restore into this database has not finished" in refused.stderr
    assert "has tables of Keyfence already" in host.run("restore", "copy", expect=5).stderr
    postgres_server.drop_database(name)


@pytest.mark.slow
def test_a_restore_uses_its_own_credential_and_not_the_operators(host: Host) -> None:
    revoked = revoke_after_a_backup(host)
    token = host.directory / "token"
    token.write_text("kf_live_unknown\n")
    token.chmod(0o600)
    done = host.run("restore", "copy", more={"KEYFENCE_TOKEN_FILE": str(token)})
    assert "Made again: 1." in done.stderr
    host.start()
    is_denied(host, revoked[1])


@pytest.mark.slow
def test_a_change_that_cannot_be_made_again_undoes_the_restore(host: Host) -> None:
    revoke_after_a_backup(host)
    host.start()
    log = json.loads(host.run("audit", "list", "--limit", "0", "-o", "json").stdout)
    host.stop()
    event = next(one for one in log["events"] if one["action"] == "key.revoke")
    event["subject"] = "key_0"
    (host.directory / "changed.json").write_text(json.dumps(log))
    before = content(host.directory / "data")
    said = host.run("restore", "copy", "--changes", "changed.json", expect=70).stderr
    assert "the restore was undone: key.revoke key_0" in said
    assert content(host.directory / "data") == before
    host.start()


@pytest.mark.slow
def test_a_key_whose_change_cannot_be_made_again_is_disabled_if_asked(host: Host) -> None:
    """As a key that was restricted to a scope that is newer than the backup."""
    server = host.start()
    (host.directory / "demo.yaml").write_text(KEYSPACE)
    host.run("keyspaces", "apply", "-f", "demo.yaml")
    key_id, plaintext = make(host, "a")
    host.run("backup", "copy")
    (host.directory / "demo.yaml").write_text(f"{KEYSPACE}  vps:write: Change\n")
    host.run("keyspaces", "apply", "-f", "demo.yaml")
    host.run("keys", "update", key_id, "--scope", "vps:write")
    server.stop()

    assert "restore with --disable-instead" in host.run("restore", "copy", expect=70).stderr
    said = host.run("restore", "copy", "--disable-instead", expect=5).stderr
    assert f"BY HAND: key.update {key_id}: it could not be made again" in said
    assert "so the key is disabled" in said
    host.start()
    is_denied(host, plaintext)


@pytest.mark.slow
def test_after_a_kill_during_the_exchange_of_the_files_the_next_step_is_named(host: Host) -> None:
    """A server that started on a new, empty database would know no key."""
    revoked = revoke_after_a_backup(host)
    data = host.directory / "data"
    # What a kill leaves between the two renames.
    aside = data / "keyfence.db.before-restore-20260101T000000Z"
    (data / "keyfence.db").rename(aside)
    (data / "keyfence.db.restoring").mkdir()
    for command in (("serve",), ("serve", "--check"), ("restore", "copy")):
        refused = host.run(*command, expect=5).stderr
        assert f"Rename {aside} to {data / 'keyfence.db'}" in refused
    aside.rename(data / "keyfence.db")
    host.run("restore", "copy")
    host.start()
    is_denied(host, revoked[1])


@pytest.mark.slow
def test_after_a_restore_that_fails_late_the_old_database_is_served(host: Host) -> None:
    revoked = revoke_after_a_backup(host)
    before = content(host.directory / "data")
    (host.directory / "wrong.json").write_text(json.dumps(WRONG_LOG))
    done = host.run("restore", "copy", "--changes", "wrong.json", expect=5)
    assert "are of different stores" in done.stderr
    assert content(host.directory / "data") == before
    host.start()
    is_denied(host, revoked[1])


@pytest.mark.slow
def test_paths_may_have_the_characters_of_a_url(host: Host) -> None:
    revoked = revoke_after_a_backup(host)
    host.start()
    kept = make(host, "b")
    host.run("backup", "50%25 of it?.db")
    host.stop()
    host.run("restore", "50%25 of it?.db")
    (aside,) = host.directory.glob("data/*before-restore*")
    aside.rename(host.directory / "50%25?.db")
    (host.directory / "data" / "keyfence.db").unlink()
    host.run("restore", "50%25 of it?.db", "--changes", "50%25?.db")
    host.start()
    is_denied(host, revoked[1])
    is_allowed(host, kept[1])


def test_the_url_of_a_file_names_that_file(tmp_path: Path) -> None:
    file = tmp_path / "50%25 of it?#.db"
    assert parse_database_url(url_of_file(file)).path == str(file)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("kf:hunter2@db/name?sslmode=require", "kf@db/name?sslmode=require"),
        ("kf@db/name?password=hunter2&sslmode=require", "kf@db/name?sslmode=require"),
        ("kf@db/name?sslmode=require&pass%77ord=hunter2", "kf@db/name?sslmode=require"),
        ("/name?host=/run/a&password=hunter2", "/name?host=/run/a"),
        ("db/name?password=hunter2", "db/name"),
    ],
)
def test_a_password_is_no_argument_of_pg_dump(
    url: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "pg_dump"
    program.write_text('#!/bin/sh\necho "$1 $PGPASSWORD" >&2\nexit 1\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(copies.CannotCopy) as raised:
        copies.copy_database(parse_database_url(f"postgresql://{url}"), tmp_path / "copy")
    assert str(raised.value) == f"--dbname=postgresql://{shown} hunter2"


def test_the_password_of_a_client_key_is_no_argument_of_pg_dump(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "pg_dump"
    program.write_text('#!/bin/sh\necho "$1 $(tail -1 "$PGSERVICEFILE")" >&2\nexit 1\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    url = parse_database_url("postgresql://kf@db/name?sslkey=k.pem&sslpass%77ord=hunter%202")
    with pytest.raises(copies.CannotCopy) as raised:
        copies.copy_database(url, tmp_path / "copy")
    shown = "--dbname=postgresql://kf@db/name?sslkey=k.pem&service=keyfence"
    assert str(raised.value) == f"{shown} sslpassword=hunter 2"


def test_a_mark_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[Path, bool]] = []
    mark = tmp_path / "high-water"

    def fsync(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink(), mark.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    HighWaterFile(mark).write(Position(revision=1, events=3, hash=b"\x00", time=START))
    (file, early), (directory, late) = synced
    assert file.name.startswith(".high-water.")
    assert directory == tmp_path
    assert (early, late) == (False, True)
