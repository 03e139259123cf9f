"""`keyfence serve --check` finds what would keep a server from starting, and makes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from incidents.conftest import Host
from keyfence_server.composition.preflight import check_start
from keyfence_server.composition.server import start
from keyfence_server.provisioning import CannotStart
from support.serving import settings_for
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


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("KEYFENCE_PEPPER", SecretStr("abc"), "not of the form VERSION:BASE64"),
        ("KEYFENCE_SESSION_KEY", SecretStr("abc"), "not of the form VERSION:BASE64"),
        ("KEYFENCE_IMPORT_SECRET_FILE", Path("gone"), "No such file or directory"),
        ("KEYFENCE_DATA_DIR", Path("file/data"), "is not a directory"),
    ],
)
async def test_what_is_given_is_read_before_a_first_start(
    directory: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: object, said: str
) -> None:
    (directory / "file").touch()
    monkeypatch.chdir(directory)
    settings = settings_for(Path("data")).model_copy(
        update={variable.removeprefix("KEYFENCE_").lower(): value}
    )
    with pytest.raises(CannotStart, match=said) as refused:
        await check_start(settings)
    assert variable in str(refused.value)


async def test_the_pepper_of_an_embedded_database_is_compared(directory: Path) -> None:
    settings = settings_for(directory / "data", pepper=PEPPER)
    server = await start(settings)
    await check_start(settings)
    await server.stop()
    other = settings.model_copy(update={"pepper": SecretStr("1:" + "B" * 43 + "=")})
    with pytest.raises(CannotStart, match="differs from the pepper"):
        await check_start(other)
    (directory / "data" / "keyfence.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(CannotStart, match="damaged"):
        await check_start(settings)


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
    assert "differs from the pepper" in check(host, other, expect=5)
