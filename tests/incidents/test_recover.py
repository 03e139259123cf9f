"""No operator credential works any more: who holds the database and the pepper makes one."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path

import asyncpg
import pytest

from incidents.conftest import Host

PEPPER = "1:" + "A" * 43 + "="


def fresh(host: Host, plaintext: str) -> dict[str, str]:
    return {**host.settings, "KEYFENCE_TOKEN": plaintext.strip()}


def require_all_powers(host: Host, recovered: str) -> None:
    """The new credential can do everything, and the audit log tells of it."""
    more = fresh(host, recovered)
    made = host.run(
        *("keys", "create", "-k", "system", "-a", "anna", "-p", "admin", "--bind", "*"),
        *("--bind", "system", "-o", "json"),
        more=more,
    )
    assert json.loads(made.stdout)["api_key"].startswith("kfop_")
    events = host.run("audit", "list", "--action", "operator.", "-o", "json", more=more)
    (event,) = json.loads(events.stdout)["events"]
    assert event["action"] == "operator.recover"
    assert not event["actor_id"]
    host.run("audit", "verify", more=more)


@pytest.mark.slow
def test_a_revoked_root_credential_is_replaced_on_sqlite(host: Host) -> None:
    server = host.start()
    # Nothing that goes by the API can take the last one away, so a hand in the database does.
    with sqlite3.connect(host.directory / "data" / "keyfence.db") as connection:
        connection.execute("DELETE FROM keys")
    connection.close()
    assert "another server uses" in host.run("operator", "recover", expect=5).stderr
    server.stop()
    server = host.start()
    host.run("whoami", expect=4)
    server.stop()

    pepper = host.directory / "data" / "pepper"
    right = pepper.read_text()
    pepper.write_text(PEPPER)
    assert "is not one under which" in host.run("operator", "recover", expect=5).stderr
    pepper.write_text("2:" + "B" * 43 + "=")
    assert "is not one under which" in host.run("operator", "recover", expect=5).stderr
    pepper.unlink()
    assert "is missing" in host.run("operator", "recover", expect=5).stderr
    pepper.write_text(right)

    done = host.run("operator", "recover", "--name", "Night shift")
    assert done.stdout.startswith("kfop_")
    assert done.stdout.strip() not in done.stderr
    host.start()
    require_all_powers(host, done.stdout)


@pytest.mark.slow
@pytest.mark.postgres
def test_a_revoked_root_credential_is_replaced_beside_servers_on_postgresql(
    host: Host, postgres_url: str
) -> None:
    assert (
        "no server has used this database yet"
        in host.run(
            *("operator", "recover", "--database-url", postgres_url),
            more={"KEYFENCE_PEPPER": PEPPER},
            expect=5,
        ).stderr
    )
    host.start({"KEYFENCE_DATABASE_URL": postgres_url, "KEYFENCE_PEPPER": PEPPER})

    async def lock_out() -> None:
        connection = await asyncpg.connect(postgres_url)
        try:
            await connection.execute("DELETE FROM keys")
        finally:
            await connection.close()

    asyncio.run(lock_out())
    wrong = {"KEYFENCE_DATABASE_URL": "", "KEYFENCE_PEPPER": "1:" + "B" * 43 + "="}
    assert (
        "is not one under which"
        in host.run(
            "operator", "recover", "--database-url", postgres_url, more=wrong, expect=5
        ).stderr
    )
    recovered = host.run(
        *("operator", "recover", "--database-url", postgres_url, "-o", "json"),
        more={"KEYFENCE_DATABASE_URL": ""},
    )
    require_all_powers(host, json.loads(recovered.stdout)["api_key"])


@pytest.mark.slow
def test_there_is_nothing_to_recover_where_there_is_no_database(directory: Path) -> None:
    host = Host(directory)
    assert "there is no database" in host.run("operator", "recover", expect=3).stderr
    assert not (directory / "data").exists()
