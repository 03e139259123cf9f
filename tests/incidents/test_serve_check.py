"""`keyfence serve --check` finds what would keep a server from starting, and makes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from incidents.conftest import Host
from support.tls import Authority

PEPPER = "1:" + "A" * 43 + "="


def check(host: Host, more: dict[str, str], *, expect: int = 0) -> str:
    done = host.run("serve", "--check", more=more, expect=expect)
    return done.stderr if expect else done.stdout


@pytest.mark.slow
def test_files_are_looked_at_and_nothing_is_made(directory: Path) -> None:
    host = Host(directory)
    assert check(host, {}) == "ready to serve\n"
    assert list(directory.iterdir()) == []
    assert "is not an operator credential" in check(host, {"KEYFENCE_ROOT_KEY": "x"}, expect=5)
    (directory / "demo.yaml").write_text("keyspace: demo\nscope: {}\n")
    wrong = {"KEYFENCE_BOOTSTRAP_KEYSPACES": "demo.yaml"}
    assert "scope" in check(host, wrong, expect=5)
    (directory / "server.key").write_bytes(Authority().issue().key)
    tls = {"KEYFENCE_TLS_CERT_FILE": "server.key", "KEYFENCE_TLS_KEY_FILE": "server.key"}
    assert "KEYFENCE_TLS_CERT_FILE" in check(host, tls, expect=5)


@pytest.mark.slow
@pytest.mark.postgres
def test_the_database_is_asked(host: Host, postgres_url: str, empty_postgres_url: str) -> None:
    given = {"KEYFENCE_PEPPER": PEPPER}
    away = {**given, "KEYFENCE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"}
    assert "the store does not answer" in check(host, away, expect=5)
    empty = {**given, "KEYFENCE_DATABASE_URL": empty_postgres_url}
    assert "run keyfence migrate" in check(host, empty, expect=5).replace("`", "")
    good = {**given, "KEYFENCE_DATABASE_URL": postgres_url}
    assert check(host, good) == "ready to serve\n"
    host.start(good)
    other = {**good, "KEYFENCE_PEPPER": "1:" + "B" * 43 + "="}
    assert "is not the pepper" in check(host, other, expect=5)
