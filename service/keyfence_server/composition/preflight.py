"""Looks for what would keep a server from starting, and changes nothing."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from pathlib import Path

from keyfence_server.adapters.clock import SystemClock
from keyfence_server.adapters.sql import SchemaMismatch, is_outdated, open_store
from keyfence_server.application.ports import StoreUnavailable
from keyfence_server.composition.background import watch_clock
from keyfence_server.config import Settings
from keyfence_server.provisioning import (
    PEPPER_FILE,
    SESSION_KEY_FILE,
    CannotStart,
    cannot_start,
    describe_store,
    embedded_database,
    first_keyspaces,
    given_root_credential,
    high_water_file,
    provide_peppers,
    provide_session_keys,
    read_import_secrets,
    require_no_cut_exchange,
    source_of_peppers,
)
from keyfence_server.rpc.certificates import ServerCertificate, UnusableCertificate


async def check_start(settings: Settings) -> None:
    """Returns if a server with these settings could start now, apart from its addresses. Raises
    `CannotStart` with the first thing that is wrong, and what to do."""
    given_root_credential(settings)
    first_keyspaces(settings)
    files = settings.certificate_files()
    if files is not None:
        with cannot_start(settings.variables_of_tls(), UnusableCertificate):
            ServerCertificate(files, SystemClock())
    if settings.upstream:
        return
    database = embedded_database(settings)
    if database is not None:
        require_no_cut_exchange(database)
        _require_writable(settings.data_dir)
    peppers, session_keys = _is_given_or_there(settings, database)
    if session_keys:
        provide_session_keys(settings, database)
    if peppers:
        await _check_database(settings, database)
    else:
        read_import_secrets(settings)
    mark = high_water_file(settings)
    if mark is not None:
        try:
            mark.read()
        except (OSError, ValueError) as error:
            raise CannotStart(f"{mark.path}: {error}") from None


def _is_given_or_there(settings: Settings, database: Path | None) -> tuple[bool, bool]:
    """Whether the peppers and the session keys can be read without making them."""
    if database is None:
        return True, True
    peppers = (
        settings.pepper is not None
        or settings.pepper_file is not None
        or (settings.data_dir / PEPPER_FILE).exists()
        or database.exists()
    )
    session_keys = (
        settings.session_key is not None
        or settings.session_key_file is not None
        or (settings.data_dir / SESSION_KEY_FILE).exists()
    )
    return peppers, session_keys


def _require_writable(data_dir: Path) -> None:
    """Returns if the directory can be written, or made."""
    nearest = next(path for path in (data_dir, *data_dir.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise CannotStart(f"KEYFENCE_DATA_DIR: {data_dir}: {nearest} is not a directory")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise CannotStart(f"KEYFENCE_DATA_DIR: {data_dir}: {nearest} cannot be written")


async def _check_database(settings: Settings, database: Path | None) -> None:
    peppers = provide_peppers(settings, database)
    if database is not None and not database.is_file():  # noqa: ASYNC240 - nothing waits
        return
    with cannot_start(describe_store(settings), SchemaMismatch, StoreUnavailable):
        # An embedded database of an older version is migrated at the start, and not now.
        if database is not None and await is_outdated(settings.store_url()):
            return
        async with AsyncExitStack() as resources:
            store = await open_store(settings.store_url())
            resources.push_async_callback(store.close)
            known = await store.set_up().known_peppers()
            clock = await watch_clock(settings, resources, store.database_time)
    given = peppers.fingerprints()
    for version, fingerprint in known.items():
        if version in given and fingerprint not in (None, given[version]):
            raise CannotStart(
                f"{source_of_peppers(settings)}: version {version} differs from the pepper that "
                "this database was used with under that number"
            )
    if (problem := clock.problem()) is not None:
        raise CannotStart(problem)
