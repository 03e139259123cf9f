"""Two versions run beside each other on one database while it is upgraded.

There is no earlier release yet, so the newer versions are made here: copies of this program with
further migrations. The older version is this program.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import keyfence_server
from incidents.conftest import Host
from incidents.test_backup import KEYSPACE, PEPPER
from keyfence import Client
from keyfence_server.adapters.sql.migrations import wanted_revision
from support.served import Served
from testkit.postgres import PostgresServer

OWN = wanted_revision()
EXPANDED, CONTRACTED = f"{int(OWN) + 1:04}", f"{int(OWN) + 2:04}"

EXPAND = f"""
import sqlalchemy as sa
from alembic import op

revision, down_revision = "{EXPANDED}", "{OWN}"
OLDEST_PROGRAM = "{OWN}"


def upgrade():
    op.add_column("keys", sa.Column("colour", sa.Text))
    op.create_index("ix_keys_colour", "keys", ["colour"])
"""
CONTRACT = f"""
from alembic import op

revision, down_revision = "{CONTRACTED}", "{EXPANDED}"
OLDEST_PROGRAM = "{EXPANDED}"


def upgrade():
    op.drop_index("ix_keys_colour")
"""


def newer_version(directory: Path, name: str, migrations: dict[str, str]) -> dict[str, str]:
    """The environment in which `keyfence` is this program with further migrations."""
    package = directory / name / "keyfence_server"
    shutil.copytree(
        Path(keyfence_server.__path__[0]), package, ignore=shutil.ignore_patterns("__pycache__")
    )
    for version, text in migrations.items():
        versions = package / "adapters" / "sql" / "migrations" / "versions"
        (versions / f"{version}_synthetic.py").write_text(text)
    return {"PYTHONPATH": f"{package.parent}:{os.environ.get('PYTHONPATH', '')}"}


def client_of(server: Served, root: str) -> Client:
    return Client(server.target, token=root)


@pytest.mark.slow
@pytest.mark.postgres
def test_an_older_server_goes_on_beside_a_newer_one(
    directory: Path, postgres_server: PostgresServer, postgres_url: str
) -> None:
    expanding = newer_version(directory, "expanding", {EXPANDED: EXPAND})
    contracting = newer_version(directory, "contracting", {EXPANDED: EXPAND, CONTRACTED: CONTRACT})
    database = {"KEYFENCE_DATABASE_URL": postgres_url, "KEYFENCE_PEPPER": PEPPER}
    (directory / "older").mkdir()
    (directory / "newer").mkdir()
    older, newer = Host(directory / "older"), Host(directory / "newer")
    try:
        first = older.start(database)
        root = first.root_key
        (older.directory / "demo.yaml").write_text(KEYSPACE)
        older.run("keyspaces", "apply", "-f", "demo.yaml")
        # A newer server says what is to be done before it can start.
        newer.settings = {**database, **expanding}
        refused = newer.run("serve", expect=5).stderr
        assert f"has schema {OWN} and this program needs schema {EXPANDED}" in refused
        assert "run `keyfence migrate`" in refused

        # Expand: the older server runs on, and the newer one starts beside it.
        assert f"from {OWN} to schema {EXPANDED}" in newer.run("migrate").stdout
        second = newer.start({**database, **expanding})
        with client_of(first, root) as one, client_of(second, root) as two:
            for maker, other in ((one, two), (two, one)):
                made = maker.create_key(keyspace="demo", account_id="a", scopes=["vps:read"])
                assert maker.check_scope(made.api_key, "vps:read").allowed
                assert other.check_scope(made.api_key, "vps:read").allowed
                other.revoke_key(made.key.key_id)
                assert not maker.check_scope(made.api_key, "vps:read").allowed
            assert len(one.list_replicas().items) == 2
        # The older version also starts again, as a pod does that moves to another node.
        older.stop()
        again = older.start(database)
        assert f"up to date, at schema {EXPANDED}" in older.run("migrate").stdout
        with client_of(again, root) as one, client_of(second, root) as two:
            kept = one.create_key(keyspace="demo", account_id="a", scopes=["vps:read"])
            assert two.check_scope(kept.api_key, "vps:read").allowed
        older.stop()

        # Contract: only when no older server runs. None starts afterwards.
        newer.run("migrate", more=contracting)
        refused = older.run("serve", expect=5).stderr
        assert f"has schema {CONTRACTED}, which this program may not use" in refused
        assert "run that version or a later one" in refused
        with client_of(second, root) as two:
            assert two.check_scope(kept.api_key, "vps:read").allowed
    finally:
        older.stop()
        newer.stop()
