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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, Protocol

from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import Failure
from keyfence_server.cli.offline import open_offline
from keyfence_server.cli.output import note

if TYPE_CHECKING:
    from keyfence_server.adapters.sql.urls import DatabaseUrl
    from keyfence_server.application.high_water import Position
    from keyfence_server.config import Settings

_SUFFIXES: Final = ("", "-wal", "-shm")


class RestorePlace(Protocol):
    """Where a restore works."""

    @property
    def settings(self) -> Settings:
        """The settings with which the restored database is opened until it is in place."""
        ...

    @property
    def old_database(self) -> Path | None:
        """The SQLite database that is going to be replaced; None if there is none."""
        ...

    def finish(self) -> Path | None:
        """Lets servers use the restored database. Nothing may have it open.

        Returns:
            Where the replaced SQLite database is now.
        """
        ...


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
        raise CannotCopy(f"{file}: is a backup of the other kind of database than {kind}")
    opening = _beside_sqlite if url.is_sqlite else _in_postgresql
    with opening(settings, url, file) as place:
        yield place


@dataclass(frozen=True, slots=True)
class _BesideSqlite:
    settings: Settings
    _used: Settings
    _copy: Path
    _database: Path

    @property
    def old_database(self) -> Path | None:
        return self._database if self._database.exists() else None

    def finish(self) -> Path | None:
        from keyfence_server.adapters.files.private import sync_directory
        from keyfence_server.adapters.sql.copies import fold_log
        from keyfence_server.provisioning import replaced_database

        position = asyncio.run(_position(self.settings))
        fold_log(self._copy)
        old, directory = self.old_database, self._database.parent
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        aside = replaced_database(self._database, moment)
        with _without_interruption():
            try:
                # First: without it, the mark keeps servers away.
                _rename(self._database, aside)
                self._copy.rename(self._database)
                sync_directory(directory)
                _keep(self._used, position)
            except BaseException:
                if not self._copy.exists():
                    self._database.rename(self._copy)
                _rename(aside, self._database)
                raise
        return aside if old is not None else None


@contextmanager
def _beside_sqlite(settings: Settings, url: DatabaseUrl, file: Path) -> Iterator[RestorePlace]:
    from pydantic import SecretStr

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
    from keyfence_server.telemetry.logs import LogLevel

    database = Path(url.path)
    with contextlib.ExitStack() as held:
        try:
            held.callback(lock_database(settings, database).release)
        except CannotStart as error:
            raise Failure(str(error), ExitCode.CONFLICT) from None
        directory = restoring_directory(database)
        # A restore that was killed leaves it.
        shutil.rmtree(directory, ignore_errors=True)
        try:
            directory.mkdir(PRIVATE_DIRECTORY)
        except OSError as error:
            raise Failure(f"{directory}: {error.strerror}", ExitCode.CONFLICT) from None
        held.callback(shutil.rmtree, directory)
        copy = directory / database.name
        put_sqlite(file, copy)
        try:
            provide_peppers(settings, copy)
        except CannotStart as error:
            raise Failure(str(error), ExitCode.CONFLICT) from None
        changed: dict[str, object] = {
            "data_dir": directory,
            "log_level": LogLevel.WARNING,
            "database_url": SecretStr(url_of_file(copy)),
        }
        if settings.pepper is None and settings.pepper_file is None:
            changed["pepper_file"] = settings.data_dir / PEPPER_FILE
        yield _BesideSqlite(settings.model_copy(update=changed), settings, copy, database)


@dataclass(frozen=True, slots=True)
class _InPostgresql:
    settings: Settings
    _used: Settings
    _url: DatabaseUrl

    @property
    def old_database(self) -> None:
        return None

    def finish(self) -> None:
        from keyfence_server.adapters.sql.unfinished_restore import end_restore

        position = asyncio.run(_position(self.settings))
        with _without_interruption():
            asyncio.run(end_restore(self._url))
            _keep(self._used, position)


@contextmanager
def _in_postgresql(settings: Settings, url: DatabaseUrl, file: Path) -> Iterator[RestorePlace]:
    from pydantic import SecretStr

    from keyfence_server.adapters.sql.copies import CannotCopy, put_postgresql
    from keyfence_server.adapters.sql.migrations import current_revision
    from keyfence_server.adapters.sql.unfinished_restore import begin_restore, url_for_restore
    from keyfence_server.application.ports import StoreUnavailable
    from keyfence_server.telemetry.logs import LogLevel

    try:
        found = asyncio.run(current_revision(settings.store_url()))
        if found is not None:
            raise CannotCopy(
                f"{url.place}: has tables of Keyfence already; create a new database and name it "
                "with --database-url"
            )
        asyncio.run(begin_restore(url))
    except StoreUnavailable as error:
        raise Failure(str(error), ExitCode.UNAVAILABLE) from None
    try:
        put_postgresql(file, url)
        with TemporaryDirectory(prefix="kf") as directory:
            changed = {
                "data_dir": Path(directory),
                "log_level": LogLevel.WARNING,
                "database_url": SecretStr(url_for_restore(url)),
            }
            yield _InPostgresql(settings.model_copy(update=changed), settings, url)
    except BaseException as error:
        note(f"{url.place}: the restore has not finished. No server starts on it; drop it.")
        if isinstance(error, StoreUnavailable):
            raise Failure(str(error), ExitCode.UNAVAILABLE) from None
        raise


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
    try:
        mark.write(position)
    except OSError as error:
        raise Failure(f"{mark.path}: {error.strerror}", ExitCode.CONFLICT) from None


def _rename(database: Path, new: Path) -> None:
    """Renames a SQLite database and the files that belong to it, as far as they are there."""
    for suffix in _SUFFIXES:
        part = database.with_name(database.name + suffix)
        if part.exists():
            part.replace(new.with_name(new.name + suffix))


@contextmanager
def _without_interruption() -> Iterator[None]:
    """Lets a few renames come to their end, although a signal tells the process to stop."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
