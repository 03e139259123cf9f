"""A PostgreSQL whose commits wait for a standby: what is not there yet, or is only there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from keyfence_server.adapters.sql import StoreOptions, open_store, upgrade
from keyfence_server.application.ports import StoreUnavailable
from testkit.postgres_pair import PostgresPair

pytestmark = pytest.mark.postgres

IMPATIENT = StoreOptions(statement_timeout=timedelta(seconds=1), lock_timeout=timedelta(seconds=1))


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[PostgresPair, str]]:
    with TemporaryDirectory(prefix="kfs-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        pair = PostgresPair(directory)
        try:
            pair.primary.start()
            database = pair.primary.create_database()
            asyncio.run(upgrade(pair.primary.url(database)))
            (directory / pair.primary.socket.name).symlink_to(pair.primary.socket)
            pair.replicate()
            yield pair, database
        finally:
            pair.close()


async def test_a_standby_is_not_taken_for_the_store(pair: tuple[PostgresPair, str]) -> None:
    """It can be read, and can be behind: a register that it shows may lack a process which has
    a lease, and what it says of a key may be over."""
    both, database = pair
    with pytest.raises(StoreUnavailable):
        await open_store(both.standby.url(database), options=IMPATIENT)


async def test_what_no_standby_has_is_not_confirmed(pair: tuple[PostgresPair, str]) -> None:
    """A commit that was given up while it waited for the standby can be read on the primary.
    Said to hold, it would be lost with the primary all the same."""
    both, database = pair
    store = await open_store(both.primary.url(database), options=IMPATIENT)
    try:
        register = store.register()
        await register.confirm()
        both.standby.freeze()
        try:
            with pytest.raises(StoreUnavailable):
                await register.confirm()
        finally:
            # It looks in on the server by an event loop of its own.
            await asyncio.to_thread(both.add_standby)
        await register.confirm()
    finally:
        await store.close()
