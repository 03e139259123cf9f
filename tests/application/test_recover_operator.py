"""An operator credential is recovered with the pepper under which servers make keys now."""

from __future__ import annotations

import pytest

from keyfence_server.adapters.sql import open_store
from keyfence_server.application.known_peppers import require_known_peppers
from keyfence_server.application.recover_operator import CannotRecover, RecoverOperator
from keyfence_server.domain.secrets import Peppers
from support.clock import FrozenClock

OLD, NEW = {1: bytes([1]) * 32}, {2: bytes([2]) * 32}


@pytest.mark.parametrize(("given", "is_enough"), [(OLD, False), (NEW, True), (OLD | NEW, True)])
async def test_a_retired_pepper_recovers_nothing(
    migrated_sqlite_url: str, given: dict[int, bytes], *, is_enough: bool
) -> None:
    """It may have leaked, and no server would recognise a key that was made under it."""
    store = await open_store(migrated_sqlite_url)
    clock = FrozenClock()
    try:
        await require_known_peppers(store.set_up(), Peppers(OLD | NEW), clock)
        await require_known_peppers(store.set_up(), Peppers(NEW), clock)
        recovering = RecoverOperator(store, store.set_up(), Peppers(given), clock)
        if is_enough:
            await recovering.recover("recovered")
        else:
            with pytest.raises(CannotRecover, match="version 2"):
                await recovering.recover("recovered")
        await require_known_peppers(store.set_up(), Peppers(NEW), clock)
    finally:
        await store.close()
