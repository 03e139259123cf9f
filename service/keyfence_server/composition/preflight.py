"""Looks for what would keep a server from starting, and changes nothing."""

from __future__ import annotations

from keyfence.holder.clock import SystemBootClock
from keyfence_server.adapters.clock import SystemClock
from keyfence_server.adapters.sql import InvalidDatabaseUrl, SchemaMismatch, open_store
from keyfence_server.application.ports import StoreUnavailable
from keyfence_server.clock_watch import ClockWatch
from keyfence_server.config import Settings
from keyfence_server.provisioning import (
    PEPPER_FILE,
    CannotStart,
    describe_store,
    embedded_database,
    first_keyspaces,
    given_root_credential,
    high_water_file,
    provide_peppers,
    provide_session_keys,
    require_no_cut_exchange,
    source_of_peppers,
)
from keyfence_server.rpc.certificates import ServerCertificate, UnusableCertificate


async def check_start(settings: Settings) -> None:
    """Returns if a server with these settings could start now, apart from its addresses.

    Raises:
        CannotStart: the first thing that is wrong, and what to do.
    """
    given_root_credential(settings)
    first_keyspaces(settings)
    files = settings.certificate_files()
    if files is not None:
        try:
            ServerCertificate(files, SystemClock())
        except UnusableCertificate as error:
            raise CannotStart(f"{settings.variables_of_tls()}: {error}") from None
    if settings.upstream:
        return
    database = embedded_database(settings)
    if database is None:
        await _check_database(settings)
    else:
        require_no_cut_exchange(database)
        if database.exists() or (settings.data_dir / PEPPER_FILE).exists():
            # Nothing is made where something is already.
            provide_peppers(settings, database)
    mark = high_water_file(settings)
    if mark is not None:
        try:
            mark.read()
        except (OSError, ValueError) as error:
            raise CannotStart(f"{mark.path}: {error}") from None


async def _check_database(settings: Settings) -> None:
    peppers = provide_peppers(settings, None)
    provide_session_keys(settings, None)
    place = describe_store(settings)
    try:
        store = await open_store(settings.store_url())
        try:
            known = await store.set_up().known_peppers()
            clock = ClockWatch(
                SystemClock(),
                SystemBootClock(),
                settings.max_clock_skew_seconds,
                store.database_time,
            )
            await clock.compare()
        finally:
            await store.close()
    except (InvalidDatabaseUrl, SchemaMismatch, StoreUnavailable) as error:
        raise CannotStart(f"{place}: {error}") from None
    given = peppers.fingerprints()
    for version, fingerprint in known.items():
        if version in given and fingerprint not in (None, given[version]):
            raise CannotStart(
                f"{source_of_peppers(settings)}: version {version} is not the pepper that this "
                "database knows by that number"
            )
    if (problem := clock.problem()) is not None:
        raise CannotStart(problem)
