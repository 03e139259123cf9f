"""The database and the peppers of this machine, for commands that work without a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import Failure, failing

if TYPE_CHECKING:
    from keyfence_server.adapters.sql import SqlStore
    from keyfence_server.application.recover_operator import RecoverOperator
    from keyfence_server.config import Settings
    from keyfence_server.domain.secrets import Peppers

DatabaseUrlOption = Annotated[
    str | None,
    typer.Option(
        envvar="KEYFENCE_DATABASE_URL",
        metavar="URL",
        help="The database: sqlite:///FILE or postgresql://… Put a password into the variable "
        "or into PGPASSWORD. Without it: keyfence.db in KEYFENCE_DATA_DIR.",
    ),
]


@dataclass(frozen=True, slots=True)
class OfflineStore:
    """A store that this command has opened by itself, and the peppers for it."""

    store: SqlStore
    peppers: Peppers


@contextmanager
def store_failures(place: str) -> Iterator[None]:
    """Makes failures of the errors of the store that is there."""
    from keyfence_server.adapters.sql import SchemaMismatch
    from keyfence_server.application.ports import StoreUnavailable

    with (
        failing(ExitCode.CONFLICT, SchemaMismatch, about=place),
        failing(ExitCode.UNAVAILABLE, StoreUnavailable, about=place),
    ):
        yield


@asynccontextmanager
async def open_offline(settings: Settings) -> AsyncIterator[OfflineStore]:
    """Opens the store. On SQLite no server can start meanwhile, and none may be running. Raises
    `Failure` if there is no such database, a server has it, or the pepper is missing. The errors of
    the opened store are failures, too."""
    from keyfence_server.adapters.sql import open_store
    from keyfence_server.adapters.sql.copies import NO_DATABASE
    from keyfence_server.provisioning import (
        CannotStart,
        describe_store,
        embedded_database,
        lock_database,
        provide_peppers,
    )
    from keyfence_server.telemetry.logs import configure_logs

    # On standard error: standard output may be a file for a secret.
    configure_logs(settings.log_format, settings.log_level)
    async with AsyncExitStack() as resources:
        with failing(ExitCode.CONFLICT, CannotStart):
            database = embedded_database(settings)
            if database is not None:
                if not database.is_file():
                    raise Failure(f"{database}: {NO_DATABASE}", ExitCode.NOT_FOUND)
                resources.callback(lock_database(settings, database).release)
            peppers = provide_peppers(settings, database)
        with store_failures(describe_store(settings)):
            store = await open_store(settings.store_url())
            resources.push_async_callback(store.close)
            yield OfflineStore(store, peppers)


@asynccontextmanager
async def open_for_recovery(settings: Settings) -> AsyncIterator[RecoverOperator]:
    """What makes and withdraws operator credentials in the store. Raises as `open_offline`, and
    `Failure` where no credential can be made."""
    from keyfence_server.adapters.clock import SystemClock
    from keyfence_server.application.recover_operator import CannotRecover, RecoverOperator

    async with open_offline(settings) as opened:
        with failing(ExitCode.CONFLICT, CannotRecover):
            yield RecoverOperator(
                opened.store, opened.store.set_up(), opened.peppers, SystemClock()
            )
