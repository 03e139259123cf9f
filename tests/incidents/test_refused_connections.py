"""PostgreSQL refuses connections: docs/how-to/repair-the-database.md."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from incidents.conftest import Host, eventually
from incidents.test_backup import KEYSPACE, PEPPER, is_denied, make
from testkit.postgres import SOCKET_NAME, PostgresServer


def refuse(way: Path) -> None:
    """Puts a socket there at which nothing listens."""
    (way / SOCKET_NAME).unlink()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(way / SOCKET_NAME))


def admit(way: Path, server: PostgresServer) -> None:
    (way / SOCKET_NAME).unlink(missing_ok=True)
    (way / SOCKET_NAME).symlink_to(server.socket)


@pytest.mark.slow
@pytest.mark.postgres
def test_the_cause_is_named_and_nothing_has_to_be_restarted(
    host: Host, postgres_server: PostgresServer, postgres_url: str
) -> None:
    name = postgres_url.partition("@/")[2].partition("?")[0]
    admit(host.directory, postgres_server)
    settings = {
        "KEYFENCE_DATABASE_URL": f"postgresql://postgres@/{name}?host={host.directory}",
        "KEYFENCE_PEPPER": PEPPER,
    }
    server = host.start(settings)
    (host.directory / "demo.yaml").write_text(KEYSPACE)
    host.run("keyspaces", "apply", "-f", "demo.yaml")
    key_id, plaintext = make(host, "acme")

    refuse(host.directory)
    postgres_server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
    )
    said = server.wait_for("store_unavailable")
    assert '"problem": "unreachable"' in said
    assert "Traceback" not in said
    eventually(lambda: server.get("/readyz")[0] == 503, "not ready")
    assert server.get("/readyz")[1] == "the database is unavailable: unreachable\n"
    assert 'keyfence_store_problem{problem="unreachable"} 1.0' in server.get("/metrics")[1]
    refused = host.run("keys", "revoke", key_id, expect=6).stderr
    assert "the store cannot be reached" in refused
    check = host.run("serve", "--check", expect=5).stderr
    assert "the store does not answer: ConnectionRefusedError" in check

    admit(host.directory, postgres_server)
    server.wait_for("store_available")
    host.run("keys", "revoke", key_id)
    is_denied(host, plaintext)
    eventually(lambda: server.get("/readyz")[0] == 200, "ready")
