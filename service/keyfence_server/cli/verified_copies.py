"""Verifies copies of the database: their schema, their pepper, their audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import Failure
from keyfence_server.cli.offline import open_offline

if TYPE_CHECKING:
    from pathlib import Path

    from keyfence_server.adapters.sql import SqlStore
    from keyfence_server.config import Settings


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
