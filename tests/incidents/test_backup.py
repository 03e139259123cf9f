"""A backup is made while the server runs, and restored with what was taken back since.

Without the replay, a key would be valid although its revocation was confirmed.
"""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest

from incidents.conftest import Host
from testkit.postgres import PostgresServer

KEYSPACE = "keyspace: demo\nscopes:\n  vps:read: Look\n"
PEPPER = "1:" + "A" * 43 + "="


def make(host: Host, account: str) -> tuple[str, str]:
    """A key's id and its plaintext."""
    options = ("-k", "demo", "-a", account, "-s", "vps:read", "-o", "json")
    made = json.loads(host.run("keys", "create", *options).stdout)
    return made["key"]["key_id"], made["api_key"]


def is_allowed(host: Host, api_key: str) -> None:
    host.run("check", "-", "-k", "demo", stdin=api_key)


def is_denied(host: Host, api_key: str) -> None:
    host.run("check", "-", "-k", "demo", stdin=api_key, expect=1)


def assert_is_one_file(database: Path) -> None:
    """By its header, SQLite would not write a log beside it."""
    assert list(database.read_bytes()[18:20]) == [1, 1]
    assert list(database.parent.glob(f"{database.name}-*")) == []


@pytest.mark.slow
def test_a_sqlite_backup_is_restored_with_the_revocations_since(host: Host) -> None:
    server = host.start()
    (host.directory / "demo.yaml").write_text(KEYSPACE)
    host.run("keyspaces", "apply", "-f", "demo.yaml")
    revoked, kept = make(host, "a"), make(host, "b")
    done = host.run("backup", "copy.db")
    assert "Verified: revision 4, and an audit log of" in done.stderr
    assert f"{host.directory}/data/pepper" in done.stderr
    assert (host.directory / "copy.db").stat().st_mode & 0o777 == 0o600
    # A log beside it would have to be made again where the backup is restored from.
    assert_is_one_file(host.directory / "copy.db")
    assert "replaces no file" in host.run("backup", "copy.db", expect=5).stderr
    host.run("keys", "revoke", revoked[0])
    assert "another server uses" in host.run("restore", "copy.db", expect=5).stderr
    server.stop()

    done = host.run("restore", "copy.db")
    assert "Made again: 1." in done.stderr
    assert_is_one_file(host.directory / "copy.db")
    (aside,) = host.directory.glob("data/keyfence.db.before-restore-*Z")
    host.start().wait_for("serving")
    is_denied(host, revoked[1])
    is_allowed(host, kept[1])
    host.run("audit", "verify")
    host.stop()

    # What was made since is unknown, and said to be.
    aside.unlink()
    (host.directory / "data" / "keyfence.db").rename(host.directory / "newer.db")
    done = host.run("restore", "copy.db", expect=5)
    assert "valid again. Give the old database" in done.stderr
    assert not (host.directory / "data" / "keyfence.db").exists()
    host.run("restore", "copy.db", "--changes", "newer.db")
    host.start()
    is_denied(host, revoked[1])
    host.stop()

    # A key that was made since is unknown, and said to be.
    host.start()
    made, _ = make(host, "c")
    host.stop()
    done = host.run("restore", "copy.db", expect=5)
    assert f'BY HAND: key.create {made}: the key is unknown; give "c" in "demo" a new one' in (
        done.stderr
    )


@pytest.mark.slow
def test_a_restore_that_cannot_be_verified_changes_nothing(host: Host) -> None:
    server = host.start()
    host.run("backup", "copy.db")
    server.stop()
    before = (host.directory / "data" / "keyfence.db").read_bytes()
    copy = host.directory / "copy.db"
    sound = copy.read_bytes()

    copy.write_bytes(b"no database")
    assert "this is not a backup" in host.run("restore", "copy.db", expect=5).stderr
    copy.write_bytes(sound[: len(sound) // 2])
    host.run("restore", "copy.db", expect=5)
    copy.write_bytes(sound)
    with sqlite3.connect(copy) as connection:
        connection.execute("UPDATE audit_events SET action = 'key.revoke' WHERE sequence = 1")
    connection.close()
    assert "audit log of the copy was changed" in host.run("restore", "copy.db", expect=5).stderr
    copy.write_bytes(sound)
    pepper = host.directory / "data" / "pepper"
    right = pepper.read_text()
    pepper.write_text(PEPPER)
    assert "differs from the pepper" in host.run("restore", "copy.db", expect=5).stderr
    pepper.write_text(right)
    assert (host.directory / "data" / "keyfence.db").read_bytes() == before
    assert not list(host.directory.glob("data/*before-restore*"))
    host.start()


@pytest.mark.slow
@pytest.mark.postgres
def test_a_postgresql_dump_is_restored_with_the_revocations_since(
    host: Host, postgres_server: PostgresServer, postgres_url: str
) -> None:
    programs = {"PATH": f"{postgres_server.binaries}:{os.environ['PATH']}"}
    server = host.start({"KEYFENCE_DATABASE_URL": postgres_url, "KEYFENCE_PEPPER": PEPPER})
    (host.directory / "demo.yaml").write_text(KEYSPACE)
    host.run("keyspaces", "apply", "-f", "demo.yaml")
    revoked, kept = make(host, "a"), make(host, "b")
    host.run("backup", "copy.dump", more=programs)
    host.run("keys", "revoke", revoked[0])
    server.stop()
    assert (
        "has tables of Keyfence already"
        in host.run("restore", "copy.dump", more=programs, expect=5).stderr
    )

    name = postgres_server.create_database()
    fresh = postgres_server.url(name)
    host.run(
        *("restore", "copy.dump", "--database-url", fresh, "--changes", postgres_url),
        more=programs,
    )
    host.start({"KEYFENCE_DATABASE_URL": fresh, "KEYFENCE_PEPPER": PEPPER})
    is_denied(host, revoked[1])
    is_allowed(host, kept[1])
    host.stop()
    postgres_server.drop_database(name)


@pytest.mark.slow
def test_without_pg_dump_it_says_what_to_install(directory: Path) -> None:
    host = Host(directory)
    more = {"PATH": "/nowhere", "KEYFENCE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"}
    said = host.run("backup", "copy.dump", more=more, expect=5).stderr
    assert "pg_dump is not installed" in said
    assert not (directory / "copy.dump").exists()
