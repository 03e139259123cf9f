"""The first credential: made once, and never by default."""

from __future__ import annotations

from pathlib import Path

import pytest

from application.authority import ACME, ROOT, Authority, refused
from keyfence_server.adapters.sql import open_store
from keyfence_server.application.first_start import new_root_credential, read_root_credential
from support.clock import FrozenClock


async def test_the_first_credential_is_made_once_even_if_keyspaces_came_first(
    tmp_path: Path, clock: FrozenClock
) -> None:
    store = await open_store(f"sqlite:///{tmp_path / 'store.db'}")
    authority = Authority(store, clock)
    await authority.apply_keyspace.apply_as_server(ACME)
    assert await authority.first_start.make_root(ROOT)
    assert not await authority.first_start.make_root(new_root_credential())
    await authority.start()
    assert authority.root.reaches("system")
    assert authority.root.reaches("acme")
    await store.close()


async def test_a_store_that_has_had_a_credential_gets_no_other_one(authority: Authority) -> None:
    """Threat 11: otherwise a restart would make another operator credential."""
    second = new_root_credential()
    assert not await authority.first_start.make_root(second)
    with refused("CREDENTIAL_REJECTED"):
        await authority.callers.identify(second.reveal())


MALFORMED = {
    "empty": "",
    "a word": "admin",
    "a default": "changeme",
    "the literal part alone": "kfop_",
    "too short": ROOT.reveal()[:-1],
    "too long": ROOT.reveal() + "0",
    "wrong case": ROOT.reveal().swapcase(),
    "leading space": f" {ROOT.reveal()}",
}


# The ids are names: the credential is random, and pytest-xdist needs the same ids in every worker.
@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_credential_is_refused_and_not_repeated(text: str) -> None:
    with refused("INVALID_FIELD", "KEYFENCE_ROOT_KEY"):
        read_root_credential(text)
    assert read_root_credential(ROOT.reveal()) == ROOT


async def test_no_caller_can_declare_the_built_in_keyspace(authority: Authority) -> None:
    with refused("KEYSPACE_IS_BUILT_IN", keyspace="system"):
        await authority.declare(ACME, name="system")
    with refused("KEYSPACE_IS_BUILT_IN"):
        await authority.apply_keyspace.apply_as_server(
            type(ACME)(name="system", scopes=ACME.scopes)
        )
