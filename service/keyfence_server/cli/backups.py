"""`keyfence backup` and `restore`: copies of the database that are verified, and put back."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import Failure, failing
from keyfence_server.cli.offline import DatabaseUrlOption, open_offline
from keyfence_server.cli.output import QuietOption, note, say
from keyfence_server.cli.server import load_settings_with

if TYPE_CHECKING:
    from keyfence_server.adapters.sql import SqlStore
    from keyfence_server.adapters.sql.urls import DatabaseUrl
    from keyfence_server.config import Settings


def backup(
    file: Annotated[
        Path, Argument(metavar="FILE", help="Where to write the backup. Must not exist.")
    ],
    database_url: DatabaseUrlOption = None,
    quiet: QuietOption = False,
) -> None:
    """Back up the database into a file, while servers run, and verify the copy.

    A SQLite database is copied by SQLite's online backup, a PostgreSQL one by `pg_dump`. The
    pepper is not in the backup: without it no key can be recognised, and both together are
    dangerous. Keep it elsewhere.
    """
    from keyfence_server.adapters.sql.copies import CannotCopy, copy_database, fold_log

    settings = load_settings_with(database_url=database_url)
    url = _url_of(settings)
    with failing(ExitCode.CONFLICT, CannotCopy):
        copy_database(url, file)
        held = asyncio.run(verify_file(file)) if url.is_sqlite else ""
        if url.is_sqlite:
            # So a restore can read it on a medium that cannot be written.
            fold_log(file)
    say(str(file))
    if not quiet:
        from keyfence_server.provisioning import source_of_peppers

        note(held or "PostgreSQL's dump is verified when it is restored; practise that.")
        note(f"Back up the pepper too, and elsewhere: {source_of_peppers(settings)}")


def restore(
    file: Annotated[Path, Argument(metavar="FILE", help="What `keyfence backup` wrote.")],
    database_url: DatabaseUrlOption = None,
    changes: Annotated[
        str | None,
        Option(
            metavar="SOURCE",
            help="Where the changes since the backup are: the old SQLite file, the old database's "
            "URL, or the output of `audit list --limit 0 -o json`. On SQLite, by default the "
            "database that is replaced.",
        ),
    ] = None,
    without_changes: Annotated[
        bool,
        Option(
            "--without-changes",
            help="Restore although keys that were revoked since the backup become valid again.",
        ),
    ] = False,
    disable_instead: Annotated[
        bool,
        Option(
            "--disable-instead",
            help="If a change cannot be made again, disable its key or account and go on. "
            "Without it such a change undoes the restore.",
        ),
    ] = False,
) -> None:
    """Restore a backup, verify it, and make the restrictive changes since it again.

    Stop every server first. On SQLite the old database is replaced at the end, and kept. On
    PostgreSQL, name a new, empty database. What cannot be made again is listed, and the exit
    code is 5. A restore that fails or is stopped leaves nothing that a server would use.
    """
    from keyfence_server.adapters.sql.copies import CannotCopy
    from keyfence_server.cli.old_log import read_old_log
    from keyfence_server.cli.remade_changes import make_again
    from keyfence_server.cli.restore_places import handling, open_restore_place
    from keyfence_server.provisioning import source_of_peppers

    settings = load_settings_with(database_url=database_url)
    url = _url_of(settings)
    if not file.is_file():
        raise Failure(f"{file}: there is no such file", ExitCode.WRONG_INPUT)
    with (
        failing(ExitCode.CONFLICT, CannotCopy),
        handling(_interrupt, signal.SIGTERM),
        open_restore_place(settings, url, file) as place,
    ):
        source = changes or (str(place.old_database) if place.old_database else None)
        if source is None and not without_changes:
            raise Failure(
                "the changes since the backup are not known, so keys that were revoked since "
                "would be valid again. Give the old database or a copy of its audit log with "
                "--changes, or restore --without-changes",
                ExitCode.CONFLICT,
            )
        log = None if without_changes or source is None else read_old_log(source)
        note(asyncio.run(verify_restored(place.settings, source_of_peppers(settings))))
        by_hand = (
            [] if log is None else make_again(place.settings, log, disable_instead=disable_instead)
        )
        replaced = place.finish()
    if replaced is not None:
        note(f"The old database is kept: {replaced}")
    if log is None:
        note("NOT made again: changes since the backup. Keys revoked since then are valid again.")
    for line in by_hand:
        note(line)
    if by_hand:
        raise typer.Exit(ExitCode.CONFLICT)


def _interrupt(_number: int, _frame: object) -> None:
    """Ends the command as Ctrl-C does, so that what has begun is undone."""
    raise KeyboardInterrupt


def _url_of(settings: Settings) -> DatabaseUrl:
    from keyfence_server.adapters.sql.urls import InvalidDatabaseUrl, parse_database_url

    with failing(ExitCode.WRONG_INPUT, InvalidDatabaseUrl, about="KEYFENCE_DATABASE_URL"):
        return parse_database_url(settings.store_url())


async def verify_file(file: Path) -> str:
    """Verifies a SQLite copy, and says what it holds. Raises `Failure`."""
    from keyfence_server.adapters.sql import SchemaMismatch, open_store, require_current
    from keyfence_server.adapters.sql.urls import url_of_file

    url = url_of_file(file)
    try:
        await require_current(url)
    except SchemaMismatch as error:
        return f"The copy is whole. Its audit log was not verified: {error}."
    store = await open_store(url)
    try:
        return await _verify_chain(store)
    finally:
        await store.close()


async def verify_restored(settings: Settings, source_of_peppers: str) -> str:
    """Migrates a restored database, verifies it, and says what it holds. Raises `Failure`."""
    from keyfence_server.adapters.clock import SystemClock
    from keyfence_server.adapters.sql import upgrade
    from keyfence_server.application.known_peppers import WrongPeppers, require_known_peppers

    await upgrade(settings.store_url())
    async with open_offline(settings) as opened:
        try:
            await require_known_peppers(opened.store.set_up(), opened.peppers, SystemClock())
        except WrongPeppers as error:
            raise Failure(
                f"{source_of_peppers}: {error}. Give the pepper of the backup", ExitCode.CONFLICT
            ) from None
        return await _verify_chain(opened.store)


async def _verify_chain(store: SqlStore) -> str:
    from keyfence_server.application.audit_chain import BEFORE_THE_FIRST
    from keyfence_server.application.read_audit import verify_chain

    end, is_complete = BEFORE_THE_FIRST, False
    while not is_complete:
        verified = await verify_chain(store, end, 0)
        if verified.problem:
            raise Failure(
                f"the audit log of the copy was changed: {verified.problem}", ExitCode.CONFLICT
            )
        end, is_complete = verified.end, verified.is_complete
    async with store.snapshot() as snapshot:
        return f"Verified: revision {snapshot.revision}, and an audit log of {end.count} events."
