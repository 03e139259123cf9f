"""After a change of a keyspace that one alone is read again, and no other waits for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from application.authority import ACME, Authority
from coherence.watched_store import WatchedStore
from keyfence.v1 import key_service_pb2 as messages
from keyfence_server.adapters.sql.reading import SqlSnapshot
from keyfence_server.domain.declarations import FormatDeclaration, ScopeDeclaration
from keyfence_server.domain.reasons import Reason
from keyfence_server.rpc.misplaced_keys import MisplacedKeys

MORE: Any = (*ACME.scopes, ScopeDeclaration(name="extra"))


@pytest.fixture
def list_nothing(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, a reading of all keyspaces fails the test."""

    async def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("all keyspaces are read")

    assert authority.cache.keyspaces.recall_recogniser() is not None
    monkeypatch.setattr(SqlSnapshot, "list_keyspaces", fail)


@pytest.mark.usefixtures("list_nothing")
async def test_the_keyspace_that_has_changed_is_read_and_no_other(authority: Authority) -> None:
    other = await authority.cache.find_keyspace("other")
    await authority.declare(ACME, scopes=MORE)
    changed = await authority.cache.find_keyspace("acme")
    assert changed is not None
    assert "extra" in changed.catalog
    assert await authority.cache.find_keyspace("other") is other
    await authority.declare(replace(ACME, name="third"))
    assert {one.name for one in await authority.cache.list_keyspaces()} == {
        "system",
        "acme",
        "other",
        "third",
    }


async def test_while_a_keyspace_is_read_what_is_about_others_is_answered(
    authority: Authority, watched: WatchedStore
) -> None:
    operator = await authority.operator("other")
    made = await authority.make(keyspace="other", scopes=["vps:read"])
    unknown = next(iter(made.facts.keyspace.recognised_forms)).mint()
    await authority.declare(ACME, scopes=MORE)
    gate = watched.hold_next_snapshot()
    reading = asyncio.ensure_future(authority.cache.find_keyspace("acme"))
    await gate.arrival()
    assert (await authority.check(made, "vps:read")).reason is Reason.OK
    verdict = await authority.check(unknown, "vps:read", by=operator, keyspace="other")
    assert verdict.reason is Reason.KEY_UNKNOWN
    assert await authority.cache.find_keyspace("other") is not None
    await MisplacedKeys(authority.cache.recogniser).refuse(
        messages.CreateKeyRequest(keyspace="other", display_name="x"), operator
    )
    assert not reading.done()
    gate.open()
    changed = await reading
    assert changed is not None
    assert "extra" in changed.catalog


async def test_a_keyspace_that_changes_while_it_is_read_is_read_again(
    authority: Authority, watched: WatchedStore
) -> None:
    await authority.declare(ACME, display_name="once")
    gate = watched.hold_next_snapshot()
    reading = asyncio.ensure_future(authority.cache.find_keyspace("acme"))
    await gate.arrival()
    await authority.declare(ACME, scopes=MORE)
    gate.open()
    found = await reading
    assert found is not None
    assert "extra" in found.catalog


async def test_a_key_of_a_new_form_waits_for_its_keyspace(
    authority: Authority, watched: WatchedStore
) -> None:
    """Otherwise a good key would be called malformed while its keyspace is read."""
    await authority.declare(ACME, format=FormatDeclaration(template="acnew_{body}{checksum}"))
    made = await authority.make(scopes=["vps:read"])
    gate = watched.hold_next_snapshot()
    check = asyncio.ensure_future(authority.check(made, "vps:read"))
    await gate.arrival()
    gate.open()
    assert (await check).reason is Reason.OK
