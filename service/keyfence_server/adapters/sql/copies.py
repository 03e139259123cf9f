"""Whole copies of a database: made while it is in use, and put into an empty place.

SQLite copies by its online backup API. PostgreSQL copies by its own `pg_dump` and `pg_restore`,
which must be as new as the server.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from keyfence_server.adapters.files.private import PRIVATE_FILE
from keyfence_server.adapters.sql.urls import DatabaseUrl

_SQLITE: Final = b"SQLite format 3\0"
_POSTGRESQL: Final = b"PGDMP"
_PAGES_AT_ONCE: Final = 4_096
_SECRET_PARAMETERS: Final = frozenset({"password", "sslpassword"})
_SERVICE: Final = "keyfence"


NO_DATABASE: Final = (
    "there is no database; name the server's data directory with KEYFENCE_DATA_DIR, or its "
    "database with KEYFENCE_DATABASE_URL"
)


class CannotCopy(Exception):
    """Why there is no copy, and what to do."""


def copy_database(url: DatabaseUrl, file: Path) -> None:
    """Copies the database at `url` into a new file that only its owner can read. What is
    committed when the copy ends is in it, or what was committed when it began.

    Raises:
        CannotCopy: there is no database, the file exists, or a program failed.
    """
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE))
    except FileExistsError:
        raise CannotCopy(
            f"{file} exists, and a backup replaces no file; name another one"
        ) from None
    except OSError as error:
        raise CannotCopy(f"{file}: {error.strerror}") from None
    try:
        if url.is_sqlite:
            _copy_sqlite(Path(url.path), file)
        else:
            _run("pg_dump", url, "--format=custom", f"--file={file}")
    except BaseException:
        file.unlink()
        raise


def is_postgresql_dump(file: Path) -> bool:
    """Whether the file is a dump of PostgreSQL; otherwise it is a SQLite database.

    Raises:
        CannotCopy: it is neither, or cannot be read.
    """
    try:
        with file.open("rb") as opened:
            start = opened.read(len(_SQLITE))
    except OSError as error:
        raise CannotCopy(f"{file}: {error.strerror}") from None
    if start.startswith(_POSTGRESQL):
        return True
    if start == _SQLITE:
        return False
    raise CannotCopy(f"{file}: this is not a backup made by `keyfence backup`")


def put_sqlite(file: Path, database: Path) -> None:
    """Copies a SQLite backup to where no database is, and checks it.

    Raises:
        CannotCopy: it is damaged, or cannot be written. There is no database then.
    """
    os.close(os.open(database, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE))
    try:
        _copy_sqlite(file, database)
    except BaseException:
        database.unlink()
        raise


def put_postgresql(file: Path, url: DatabaseUrl) -> None:
    """Restores a dump into an empty database, in one transaction.

    Raises:
        CannotCopy: `pg_restore` is missing, or fails. Nothing was changed then.
    """
    _run("pg_restore", url, "--single-transaction", "--exit-on-error", "--no-owner", str(file))


def fold_log(database: Path) -> None:
    """Makes a SQLite database that nothing has open one file on the disk, without a log.

    Raises:
        CannotCopy: it cannot be written, or a program has it open.
    """
    try:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise CannotCopy(f"{database}: {error}") from None


def _copy_sqlite(source: Path, target: Path) -> None:
    if not source.is_file():
        raise CannotCopy(f"{source}: {NO_DATABASE}")
    address = f"file:{quote(os.fsencode(source.absolute()))}?mode=ro"
    try:
        with (
            closing(sqlite3.connect(address, uri=True)) as before,
            closing(sqlite3.connect(target)) as after,
        ):
            before.backup(after, pages=_PAGES_AT_ONCE)
            found = after.execute("PRAGMA integrity_check").fetchone()[0]
            if found != "ok":
                raise CannotCopy(f"{source}: is damaged: {found}")
            # The copy is one file: no log stands beside it.
            after.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise CannotCopy(f"{source}: {error}") from None


def _run(program: str, url: DatabaseUrl, *arguments: str) -> None:
    try:
        with _reachable(url) as (address, environment):
            done = subprocess.run(
                [program, f"--dbname={address}", "--no-password", *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                env=environment,
            )
    except FileNotFoundError:
        raise CannotCopy(
            f"{program} is not installed; install PostgreSQL's client programs, at least as new "
            "as the server"
        ) from None
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise CannotCopy(lines[0] if lines else f"{program} failed with {done.returncode}")


@contextmanager
def _reachable(url: DatabaseUrl) -> Iterator[tuple[str, dict[str, str]]]:
    """The URL and the environment for a program of PostgreSQL. Every user of the machine can
    read the arguments of a process, so no secret is in the URL."""
    address, secrets = _without_secrets(url.for_asyncpg())
    environment = dict(os.environ)
    if password := secrets.get("password"):
        environment["PGPASSWORD"] = password
    if key_password := secrets.get("sslpassword"):
        # There is no variable for it, but a service may have it.
        with TemporaryDirectory(prefix="kf") as directory:
            file = Path(directory) / "service"
            file.touch(PRIVATE_FILE)
            file.write_text(f"[{_SERVICE}]\nsslpassword={key_password}\n")
            environment["PGSERVICEFILE"] = str(file)
            separator = "&" if "?" in address else "?"
            yield f"{address}{separator}service={_SERVICE}", environment
    else:
        yield address, environment


def _without_secrets(address: str) -> tuple[str, dict[str, str]]:
    """The URL without its passwords, and these by the names of their parameters."""
    parts = urlsplit(address)
    login, at, host = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    # PostgreSQL's programs read a parameter after what is in front of the host.
    secrets = {"password": unquote(password)}
    parameters = []
    for parameter in filter(None, parts.query.split("&")):
        name, _, value = parameter.partition("=")
        if unquote(name) in _SECRET_PARAMETERS:
            secrets[unquote(name)] = unquote(value)
        else:
            parameters.append(parameter)
    # Not by `urlunsplit`, which leaves out the slashes before a host that is empty.
    kept = f"{parts.scheme}://{user}{at}{host}{parts.path}"
    return f"{kept}?{'&'.join(parameters)}" if parameters else kept, secrets
