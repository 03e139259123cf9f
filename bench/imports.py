"""What an import costs beside the database's own bulk load of the same rows, in one run.

The command `keyfence keys import` imports a file of SHA-256 digests through a server. Then the rows
that came of it are loaded into a table with the same indexes: in SQLite by `executemany` in one
transaction, in PostgreSQL by `COPY`. Both databases wait for the disk, as in use.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from bench.processes import ROOT, environment, running, until_answering
from bench.report import Report
from keyfence_server.adapters.sql import upgrade
from keyfence_server.adapters.sql.urls import parse_database_url
from keyfence_server.application.first_start import new_root_credential
from testkit.postgres import PostgresServer

_SLICE: Final = 50_000


@dataclass(frozen=True, slots=True)
class _Site:
    """A server to import into.

    Attributes:
        load: loads the imported rows again, past the server, and tells the seconds.
    """

    target: str
    token: str
    load: Callable[[], float]


def measure(report: Report, *, rounds: int, keys: int) -> None:
    """Measures both on SQLite and on PostgreSQL, each round with a new database."""
    title = f"An import of {keys:,} keys beside the database's own bulk load: {rounds} rounds"
    table = report.table("import", title)
    with tempfile.TemporaryDirectory(prefix="kfb-") as name:
        directory = Path(name)
        file = directory / "keys.jsonl"
        _write_keys(file, keys)
        for store, opened in (("SQLite", _on_sqlite), ("PostgreSQL", _on_postgresql)):
            imported, loaded = [], []
            for number in range(rounds):
                with opened(directory / f"{store}{number}") as site:
                    imported.append(_import(site, file, keys) / keys * 1e6)
                    loaded.append(site.load() / keys * 1e6)
            table.compare(
                "time, µs a key",
                {"import": imported, "bulk load": loaded},
                ratio="import ÷ bulk load, time",
                group=store,
                at_most=3,
            )


def _write_keys(file: Path, count: int) -> None:
    with file.open("w") as written:
        for number in range(count):
            line = {
                "account_id": f"account_{number % 10_000}",
                "sha256": hashlib.sha256(f"key {number}".encode()).hexdigest(),
                "display_name": f"Key {number}",
                "scopes": ["vps:read"],
            }
            written.write(json.dumps(line) + "\n")


def _import(site: _Site, file: Path, keys: int) -> float:
    command = [sys.executable, "-m", "keyfence_server", "keys", "import", str(file), "-k", "demo"]
    settings = {"KEYFENCE_TARGET": site.target, "KEYFENCE_TOKEN": site.token}
    began = time.perf_counter()
    ended = subprocess.run(
        [*command, "-o", "json"],
        env={**environment(), **settings},
        stdout=subprocess.PIPE,
        check=True,
    )
    seconds = time.perf_counter() - began
    if json.loads(ended.stdout)["imported"] != keys:
        raise RuntimeError(f"not every key was imported: {ended.stdout!r}")
    return seconds


@contextmanager
def _server(directory: Path, settings: dict[str, str]) -> Iterator[str]:
    target = f"unix:{directory}.sock"
    common = {
        "KEYFENCE_LISTEN": target,
        "KEYFENCE_DATA_DIR": str(directory),
        "KEYFENCE_BOOTSTRAP_KEYSPACES": str(ROOT / "examples/keyspaces/demo.yaml"),
        "KEYFENCE_LOG_LEVEL": "error",
    }
    command = [sys.executable, "-m", "keyfence_server", "serve"]
    variables = {**environment(), **common, **settings}
    with running(command, variables, until_answering(target)):
        yield target


@contextmanager
def _on_sqlite(directory: Path) -> Iterator[_Site]:
    with _server(directory, {}) as target:
        token = (directory / "root.key").read_text().strip()
        yield _Site(target, token, lambda: _load_sqlite(directory / "keyfence.db"))


@contextmanager
def _on_postgresql(directory: Path) -> Iterator[_Site]:
    with ExitStack() as stack:
        postgres = PostgresServer(durable=True)
        stack.callback(postgres.close)
        postgres.start()
        url = postgres.url(postgres.create_database())
        asyncio.run(upgrade(url))
        token = new_root_credential().reveal()
        settings = {
            "KEYFENCE_DATABASE_URL": url,
            "KEYFENCE_PEPPER": "1:" + "A" * 44,
            "KEYFENCE_ROOT_KEY": token,
        }
        target = stack.enter_context(_server(directory, settings))
        yield _Site(target, token, lambda: asyncio.run(_load_postgresql(url)))


def _load_sqlite(database: Path) -> float:
    seconds = 0.0
    with (
        closing(sqlite3.connect(database)) as source,
        closing(sqlite3.connect(f"{database}.bulk", isolation_level=None)) as bulk,
    ):
        bulk.execute("PRAGMA journal_mode = WAL")
        bulk.execute("PRAGMA synchronous = FULL")
        for (statement,) in source.execute(
            "SELECT sql FROM sqlite_master WHERE tbl_name = 'keys' AND sql IS NOT NULL"
        ).fetchall():
            bulk.execute(statement)
        imported = source.execute("SELECT * FROM keys ORDER BY rowid")
        places = ", ".join("?" * len(imported.description))
        bulk.execute("BEGIN")
        while rows := imported.fetchmany(_SLICE):
            began = time.perf_counter()
            bulk.executemany(f"INSERT INTO keys VALUES ({places})", rows)
            seconds += time.perf_counter() - began
        began = time.perf_counter()
        bulk.execute("COMMIT")
        return seconds + time.perf_counter() - began


async def _load_postgresql(url: str) -> float:
    connection = await asyncpg.connect(parse_database_url(url).for_asyncpg())
    try:
        await connection.execute("CREATE TABLE bulk (LIKE keys INCLUDING ALL)")
        with tempfile.TemporaryFile() as rows:
            await connection.copy_from_table("keys", output=rows, format="binary")
            rows.seek(0)
            began = time.perf_counter()
            await connection.copy_to_table("bulk", source=rows, format="binary")
            return time.perf_counter() - began
    finally:
        await connection.close()
