"""Where a restore works until it has finished, so that no server can use the database before.

On SQLite it works on a file beside the database, which replaces the database at the end. On
PostgreSQL it works in the new database, and a table in it keeps servers away until the end. In
both cases the high-water mark is replaced last: until then, a server refuses the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import failing
from keyfence_server.cli.offline import open_offline
from keyfence_server.cli.output import note

if TYPE_CHECKING:
    from keyfence_server.adapters.sql.urls import DatabaseUrl
    from keyfence_server.application.high_water import Position
    from keyfence_server.config import Settings

_SUFFIXES: Final = ("", "-wal", "-shm")


@dataclass(frozen=True, slots=True)
class RestorePlace:
    """Where a restore works.

    Attributes:
        settings: those with which the restored database is opened until it is in place.
        finish: lets servers use the restored database. Nothing may have it open. Returns where the
            replaced SQLite database is now.
        old_database: the SQLite database that is going to be replaced; None if there is none.
    """

    settings: Settings
    finish: Callable[[], Path | None]
    old_database: Path | None = None


@contextmanager
def open_restore_place(settings: Settings, url: DatabaseUrl, file: Path) -> Iterator[RestorePlace]:
    """Restores the backup to where no server uses it. What is not finished is undone.

    Raises:
        CannotCopy: the backup is damaged, or of another kind of database.
        Failure: a server uses the database, or it is not empty.
    """
    from keyfence_server.adapters.sql.copies import CannotCopy, is_postgresql_dump

    if is_postgresql_dump(file) is url.is_sqlite:
        kind = "a SQLite file" if url.is_sqlite else "PostgreSQL"
        raise CannotCopy(f"{file}: is a backup of another kind of database than {kind}")
    opening = _beside_sqlite if url.is_sqlite else _in_postgresql
    with opening(settings, url, file) as place:
        yield place


@contextmanager
def _beside_sqlite(settings: Settings, url: DatabaseUrl, file: Path) -> Iterator[RestorePlace]:
    from keyfence_server.adapters.files.private import PRIVATE_DIRECTORY
    from keyfence_server.adapters.sql.copies import put_sqlite
    from keyfence_server.adapters.sql.urls import url_of_file
    from keyfence_server.provisioning import (
        PEPPER_FILE,
        CannotStart,
        lock_database,
        provide_peppers,
        restoring_directory,
    )

    database = Path(url.path)
    with contextlib.ExitStack() as held:
        with failing(ExitCode.CONFLICT, CannotStart):
            held.callback(lock_database(settings, database).release)
        directory = restoring_directory(database)
        # A restore that was killed leaves it.
        shutil.rmtree(directory, ignore_errors=True)
        with failing(ExitCode.CONFLICT, OSError, about=directory):
            directory.mkdir(PRIVATE_DIRECTORY)
        held.callback(shutil.rmtree, directory)
        copy = directory / database.name
        put_sqlite(file, copy)
        with failing(ExitCode.CONFLICT, CannotStart):
            provide_peppers(settings, copy)
        pepper_file = settings.pepper_file
        if settings.pepper is None and pepper_file is None:
            pepper_file = settings.data_dir / PEPPER_FILE
        changed = _changed(settings, directory, url_of_file(copy), pepper_file=pepper_file)
        yield RestorePlace(
            changed,
            lambda: _exchange(settings, changed, copy, database),
            database if database.exists() else None,
        )


def _exchange(settings: Settings, changed: Settings, copy: Path, database: Path) -> Path | None:
    """Puts the copy in place of the database. Returns where the database is now."""
    from keyfence_server.adapters.files.private import sync_directory
    from keyfence_server.adapters.sql.copies import fold_log
    from keyfence_server.provisioning import replaced_database

    position = asyncio.run(_position(changed))
    fold_log(copy)
    is_replaced = database.exists()
    aside = replaced_database(database, datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"))
    with handling(signal.SIG_IGN, signal.SIGTERM, signal.SIGINT):
        try:
            # First: without it, the mark keeps servers away.
            _rename(database, aside)
            copy.rename(database)
            sync_directory(database.parent)
            _keep(settings, position)
        except BaseException:
            if not copy.exists():
                database.rename(copy)
            _rename(aside, database)
            raise
    return aside if is_replaced else None


@contextmanager
def _in_postgresql(settings: Settings, url: DatabaseUrl, file: Path) -> Iterator[RestorePlace]:
    from keyfence_server.adapters.sql.copies import CannotCopy, put_postgresql
    from keyfence_server.adapters.sql.migrations import current_revision
    from keyfence_server.adapters.sql.unfinished_restore import (
        begin_restore,
        end_restore,
        url_for_restore,
    )
    from keyfence_server.application.ports import StoreUnavailable

    def finish() -> None:
        position = asyncio.run(_position(changed))
        with handling(signal.SIG_IGN, signal.SIGTERM, signal.SIGINT):
            asyncio.run(end_restore(url))
            _keep(settings, position)

    with failing(ExitCode.UNAVAILABLE, StoreUnavailable):
        found = asyncio.run(current_revision(settings.store_url()))
        if found is not None:
            raise CannotCopy(
                f"{url.place}: has tables of Keyfence already; create a new database and name it "
                "with --database-url"
            )
        asyncio.run(begin_restore(url))
        try:
            put_postgresql(file, url)
            with TemporaryDirectory(prefix="kf") as directory:
                changed = _changed(settings, Path(directory), url_for_restore(url))
                yield RestorePlace(changed, finish)
        except BaseException:
            note(f"{url.place}: the restore has not finished. No server starts on it; drop it.")
            raise


def _changed(settings: Settings, data_dir: Path, database_url: str, **more: object) -> Settings:
    """The settings for a restored database that is not in place yet."""
    from pydantic import SecretStr

    changed = {
        "data_dir": data_dir,
        "log_level": "warning",
        "database_url": SecretStr(database_url),
    }
    return settings.model_copy(update={**changed, **more})


async def _position(settings: Settings) -> Position:
    from keyfence_server.application.high_water import read_position

    async with open_offline(settings) as opened:
        return await read_position(opened.store, datetime.now(UTC))


def _keep(settings: Settings, position: Position) -> None:
    """The database is older now than the servers of this directory have seen it, on purpose."""
    from keyfence_server.provisioning import high_water_file

    mark = high_water_file(settings)
    if mark is None:
        return
    with failing(ExitCode.CONFLICT, OSError, about=mark.path):
        mark.write(position)


def _rename(database: Path, new: Path) -> None:
    """Renames a SQLite database and the files that belong to it, as far as they are there."""
    for suffix in _SUFFIXES:
        part = database.with_name(database.name + suffix)
        if part.exists():
            part.replace(new.with_name(new.name + suffix))


@contextmanager
def handling(handler: Any, *signals: signal.Signals) -> Iterator[None]:
    """Has another handler for these signals meanwhile. One that ignores them lets a few renames
    come to their end, although a signal tells the process to stop."""
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
