"""`keyfence backup` and `restore`: copies of the database that are verified, and put back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Final

import typer

from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import Failure
from keyfence_server.cli.offline import DatabaseUrlOption, open_offline
from keyfence_server.cli.output import QuietOption, note, say
from keyfence_server.cli.server import load_settings_with

if TYPE_CHECKING:
    from keyfence_server.adapters.sql import SqlStore
    from keyfence_server.adapters.sql.urls import DatabaseUrl
    from keyfence_server.cli.old_log import OldLog
    from keyfence_server.cli.restrictive_changes import Step
    from keyfence_server.config import Settings
    from keyfence_server.domain.keys import KeyId
    from keyfence_server.domain.secrets import Plaintext

_PAGE: Final = 1_000
_START_SECONDS: Final = 180
_NOT_FOR_THE_PRIVATE_SERVER: Final = ("KEYFENCE_METRICS_LISTEN", "KEYFENCE_WORKERS")


def backup(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where to write the backup. Must not exist.")
    ],
    database_url: DatabaseUrlOption = None,
    quiet: QuietOption = False,
) -> None:
    """Back up the database into a file, while servers run, and verify the copy.

    A SQLite database is copied by SQLite's online backup, a PostgreSQL one by `pg_dump`. The
    pepper is not in the backup: without it no key can be recognised, and both together are
    dangerous. Keep it elsewhere.
    """
    from keyfence_server.adapters.sql.copies import CannotCopy, copy_database

    settings = load_settings_with(database_url=database_url)
    url = _url_of(settings)
    try:
        copy_database(url, file)
        held = asyncio.run(_verified_copy(file.absolute())) if url.is_sqlite else ""
    except CannotCopy as error:
        raise Failure(str(error), ExitCode.CONFLICT) from None
    say(str(file))
    if not quiet:
        from keyfence_server.provisioning import source_of_peppers

        note(held or "PostgreSQL's dump is verified when it is restored; practise that.")
        note(f"Back up the pepper too, and elsewhere: {source_of_peppers(settings)}")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `keyfence backup` wrote.")],
    database_url: DatabaseUrlOption = None,
    changes: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Where the changes since the backup are: the old SQLite file, the old database's "
            "URL, or the output of `audit list --limit 0 -o json`. On SQLite, by default the "
            "database that is replaced.",
        ),
    ] = None,
    without_changes: Annotated[
        bool,
        typer.Option(
            "--without-changes",
            help="Restore although keys that were revoked since the backup become valid again.",
        ),
    ] = False,
) -> None:
    """Restore a backup, verify it, and make the restrictive changes since it again.

    Stop every server first. On SQLite the old database is moved aside and kept. On PostgreSQL,
    name a new, empty database. What cannot be made again is listed, and the exit code is 5.
    """
    from keyfence_server.adapters.sql.copies import CannotCopy

    settings = load_settings_with(database_url=database_url)
    url = _url_of(settings)
    try:
        replaced = _put_back(settings, url, file)
    except CannotCopy as error:
        raise Failure(str(error), ExitCode.CONFLICT) from None
    source = changes or (None if replaced is None else str(replaced))
    if replaced is not None:
        note(f"The old database is kept: {replaced}")
    if source is None and not without_changes:
        _undo(url, replaced)
        raise Failure(
            "the changes since the backup are not known, so keys that were revoked since would be "
            "valid again. Give the old database or a copy of its audit log with --changes, or "
            "restore --without-changes",
            ExitCode.CONFLICT,
        )
    try:
        log = None if without_changes or source is None else _read(source)
        note(asyncio.run(_verified(settings)))
        _forget_position(settings)
        by_hand = [] if log is None else _make_again(settings, log)
    except BaseException:
        # A restored database that lacks the revocations since must not be left to be served.
        _undo(url, replaced)
        raise
    if log is None:
        note("NOT made again: changes since the backup. Keys revoked since then are valid again.")
    for line in by_hand:
        note(line)
    if by_hand:
        raise typer.Exit(ExitCode.CONFLICT)


def _url_of(settings: Settings) -> DatabaseUrl:
    from keyfence_server.adapters.sql.urls import InvalidDatabaseUrl, parse_database_url

    try:
        return parse_database_url(settings.store_url())
    except InvalidDatabaseUrl as error:
        raise Failure(f"KEYFENCE_DATABASE_URL: {error}", ExitCode.WRONG_INPUT) from None


def _read(source: str) -> OldLog:
    from keyfence_server.cli.old_log import read_old_log

    return read_old_log(source)


def _put_back(settings: Settings, url: DatabaseUrl, file: Path) -> Path | None:
    """Puts the backup in place. Returns where the replaced SQLite database is now."""
    from keyfence_server.adapters.sql.copies import (
        CannotCopy,
        is_postgresql_dump,
        put_postgresql,
        put_sqlite,
    )
    from keyfence_server.adapters.sql.migrations import current_revision
    from keyfence_server.application.ports import StoreUnavailable
    from keyfence_server.provisioning import CannotStart, lock_database

    if is_postgresql_dump(file) is url.is_sqlite:
        kind = "a SQLite file" if url.is_sqlite else "PostgreSQL"
        raise CannotCopy(f"{file}: is a backup of the other kind of database than {kind}")
    if not url.is_sqlite:
        try:
            found = asyncio.run(current_revision(settings.store_url()))
        except StoreUnavailable as error:
            raise Failure(str(error), ExitCode.UNAVAILABLE) from None
        if found is not None:
            raise CannotCopy(
                f"{url.place}: has tables of Keyfence already; create a new database and name it "
                "with --database-url"
            )
        put_postgresql(file, url)
        return None
    database = Path(url.path)
    try:
        lock = lock_database(settings, database)
    except CannotStart as error:
        raise Failure(str(error), ExitCode.CONFLICT) from None
    try:
        replaced = _move_aside(database) if database.exists() else None
        try:
            put_sqlite(file, database)
        except BaseException:
            _undo(url, replaced)
            raise
        return replaced
    finally:
        lock.release()


_SUFFIXES: Final = ("", "-wal", "-shm")


def _move_aside(database: Path) -> Path:
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = database.with_name(f"{database.name}.before-restore-{moment}")
    for suffix in _SUFFIXES:
        part = database.with_name(database.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def _undo(url: DatabaseUrl, replaced: Path | None) -> None:
    """Takes the restored SQLite database away, and puts the replaced one back."""
    if not url.is_sqlite:
        return
    database = Path(url.path)
    for suffix in _SUFFIXES:
        database.with_name(database.name + suffix).unlink(missing_ok=True)
        if replaced is not None:
            part = replaced.with_name(replaced.name + suffix)
            if part.exists():
                part.rename(database.with_name(database.name + suffix))


def _forget_position(settings: Settings) -> None:
    """The database is older now than the servers of this directory have seen it, on purpose."""
    from keyfence_server.provisioning import high_water_file

    mark = high_water_file(settings)
    if mark is not None:
        mark.path.unlink(missing_ok=True)


async def _verified_copy(file: Path) -> str:
    """Says what a SQLite copy holds."""
    from keyfence_server.adapters.sql import SchemaMismatch, open_store, require_current

    url = f"sqlite:///{file}"
    try:
        await require_current(url)
    except SchemaMismatch as error:
        return f"The copy is whole. Its audit log was not verified: {error}."
    store = await open_store(url)
    try:
        return await _chain_of(store)
    finally:
        await store.close()


async def _verified(settings: Settings) -> str:
    """Verifies the restored database: its schema, its pepper, its audit log."""
    from keyfence_server.adapters.clock import SystemClock
    from keyfence_server.adapters.sql import upgrade
    from keyfence_server.application.known_peppers import WrongPeppers, require_known_peppers
    from keyfence_server.provisioning import source_of_peppers

    await upgrade(settings.store_url())
    async with open_offline(settings) as opened:
        try:
            await require_known_peppers(opened.store.set_up(), opened.peppers, SystemClock())
        except WrongPeppers as error:
            raise Failure(
                f"{source_of_peppers(settings)}: {error}. Give the pepper of the backup",
                ExitCode.CONFLICT,
            ) from None
        return await _chain_of(opened.store)


async def _chain_of(store: SqlStore) -> str:
    from keyfence_server.application.audit_chain import BEFORE_THE_FIRST, follow
    from keyfence_server.application.ports import EventFilter

    async with store.snapshot() as snapshot:
        head, end = await snapshot.end_of_events(), BEFORE_THE_FIRST
        while events := await snapshot.list_events(EventFilter(), after=end.count, limit=_PAGE):
            end, fault = follow(end, events)
            if fault is not None:
                raise Failure(
                    f"the audit log of the copy was changed: {fault.problem}", ExitCode.CONFLICT
                )
        if end != head:
            raise Failure("the end of the audit log of the copy is missing", ExitCode.CONFLICT)
        return f"Verified: revision {snapshot.revision}, and an audit log of {end.count} events."


def _make_again(settings: Settings, log: OldLog) -> list[str]:
    """Makes the restrictive changes again, on a server that only this command reaches.

    Returns:
        What an operator has to do, each in a line.
    """
    from keyfence import Client, KeyfenceError
    from keyfence_server.cli.restrictive_changes import events_since_backup, steps

    key_id, credential = asyncio.run(_make_credential(settings))
    with TemporaryDirectory(prefix="kf") as directory:
        target = f"unix:{directory}/restore.sock"
        with _serving(target), Client(target, token=credential.reveal(), timeout_seconds=60) as own:
            try:
                events = events_since_backup(own, log)
                found = list(steps(events, log.keys, datetime.now(UTC)))
                failed = [step for step in found if not _carry_out(step, target, credential)]
            except KeyfenceError as error:
                raise Failure(
                    f"the changes were not made again: {error}", ExitCode.CONFLICT
                ) from None
            finally:
                # No one knows its plaintext, so one that stays, as the last one, opens nothing.
                with contextlib.suppress(KeyfenceError):
                    own.revoke_key(key_id)
    note(f"{len(events)} events since the backup; {len(found)} of them change what is valid.")
    note(f"Made again: {sum(bool(step.commands) for step in found) - len(failed)}.")
    return [
        *(
            f"BY HAND: {step.event.action} {step.event.subject}: {step.by_hand}"
            for step in found
            if step.by_hand
        ),
        *(f"FAILED: {step.event.action} {step.event.subject}; make it again" for step in failed),
    ]


async def _make_credential(settings: Settings) -> tuple[KeyId, Plaintext]:
    from keyfence_server.adapters.clock import SystemClock
    from keyfence_server.application.recover_operator import CannotRecover, RecoverOperator

    async with open_offline(settings) as opened:
        make = RecoverOperator(opened.store, opened.store.set_up(), opened.peppers, SystemClock())
        try:
            key, plaintext = await make.recover("Restore", purpose="restore")
        except CannotRecover as error:
            raise Failure(str(error), ExitCode.CONFLICT) from None
        return key.key_id, plaintext


def _carry_out(step: Step, target: str, credential: Plaintext) -> bool:
    """Runs the commands of a step. Returns whether all of them have succeeded."""
    from keyfence_server.cli.app import run

    os.environ["KEYFENCE_TARGET"], os.environ["KEYFENCE_TOKEN"] = target, credential.reveal()
    with contextlib.redirect_stdout(StringIO()):
        return all(run([*command]) == ExitCode.OK for command in step.commands)


@contextlib.contextmanager
def _serving(target: str) -> Iterator[None]:
    """A server on the restored database, on a Unix socket that only this user reaches."""
    environment = {
        name: value for name, value in os.environ.items() if name not in _NOT_FOR_THE_PRIVATE_SERVER
    }
    with subprocess.Popen(
        [sys.executable, "-m", "keyfence_server", "serve"],
        env={**environment, "KEYFENCE_LISTEN": target, "KEYFENCE_LOG_LEVEL": "warning"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            _wait_until_it_serves(server, target)
            yield
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate()


def _wait_until_it_serves(server: subprocess.Popen[str], target: str) -> None:
    import grpc

    with grpc.insecure_channel(target, [("grpc.max_reconnect_backoff_ms", 200)]) as channel:
        ready = grpc.channel_ready_future(channel)
        for _ in range(_START_SECONDS):
            with contextlib.suppress(grpc.FutureTimeoutError):
                ready.result(timeout=1)
                return
            if server.poll() is not None:
                break
    server.kill()
    raise Failure(
        f"the server on the restored database did not start:\n{server.communicate()[1]}",
        ExitCode.CONFLICT,
    )
