"""Database URLs: what is understood, and that a password in one is never shown."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from keyfence_server.adapters.sql import InvalidDatabaseUrl, open_store
from keyfence_server.adapters.sql.urls import parse_database_url
from keyfence_server.application.ports import StoreUnavailable

PASSWORD = "hunter2-never-shown"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("sqlite:///relative/store.db", "relative/store.db"),
        ("sqlite:////absolute/store.db", "/absolute/store.db"),
        ("sqlite+aiosqlite:////absolute/store.db", "/absolute/store.db"),
        ("sqlite:////with%20space.db", "/with space.db"),
    ],
)
def test_a_sqlite_url_names_a_file(text: str, path: str) -> None:
    url = parse_database_url(text)
    assert url.is_sqlite
    assert url.path == path


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_a_postgresql_url_is_passed_on_as_it_is(scheme: str) -> None:
    address = f"u:{PASSWORD}@h1:1,h2:2/db?target_session_attrs=read-write&sslmode=verify-full"
    url = parse_database_url(f"{scheme}://{address}")
    assert not url.is_sqlite
    assert url.for_asyncpg() == f"postgresql://{address}"
    assert PASSWORD not in repr(url)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "store.db",
        f"u:{PASSWORD}@host/db",
        f"mysql://u:{PASSWORD}@host/db",
        f"postgresql+psycopg://u:{PASSWORD}@host/db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///file:store?mode=memory",
        "sqlite://relative.db",
        "sqlite:////store.db?timeout=1",
    ],
)
def test_any_other_url_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(InvalidDatabaseUrl) as caught:
        parse_database_url(text)
    assert PASSWORD not in _shown(caught.value)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("sqlite:////var/lib/x.db", "/var/lib/x.db"),
        (f"postgresql://u:{PASSWORD}@db.example:5432/d", "PostgreSQL at db.example:5432"),
        (f"postgresql://u:{PASSWORD}@a:1,b:2/d?sslmode=require", "PostgreSQL at a:1,b:2"),
        (f"postgresql://db/d?user=u&password={PASSWORD}", "PostgreSQL at db"),
        (f"postgresql://u:{PASSWORD}@/d?host=/run", "PostgreSQL"),
        (f"postgresql://u:x?{PASSWORD}@db/d", "PostgreSQL"),
        (f"postgresql://db/d?password=x@{PASSWORD}", "PostgreSQL"),
    ],
)
def test_a_place_is_called_without_the_password(url: str, place: str) -> None:
    assert parse_database_url(url).place == place


async def test_a_file_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidDatabaseUrl, match="No such file or directory"):
        await open_store(f"sqlite:///{tmp_path}/missing/store.db")


@pytest.mark.parametrize(
    "address",
    [
        f"u:{PASSWORD}@127.0.0.1:{PASSWORD}/db",
        f"u:{PASSWORD}@/db?host=/nowhere&sslmode={PASSWORD}",
    ],
)
async def test_a_postgresql_url_that_the_driver_refuses_is_not_repeated(address: str) -> None:
    with pytest.raises(InvalidDatabaseUrl) as caught:
        await open_store(f"postgresql://{address}")
    assert PASSWORD not in _shown(caught.value)


async def test_a_server_that_is_not_there_is_told_of_without_the_password() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        await open_store(f"postgresql://u:{PASSWORD}@/db?host=/nowhere")
    assert PASSWORD not in _shown(caught.value)


def _shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error)
