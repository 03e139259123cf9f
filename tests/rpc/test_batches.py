"""Keys that memory lacks are loaded together, and a batch answers as its checks would alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from keyfence.v1 import authorization_service_pb2 as messages
from keyfence_server.adapters.sql.sqlite_connection import SqliteCursor
from keyfence_server.application.callers import Caller
from keyfence_server.application.presented_keys import PresentedKeys
from keyfence_server.coherence.fact_cache import LOADS_AT_ONCE
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.reasons import Reason
from support.serving import Served


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that look for keys by their digests."""
    statements: list[str] = []
    execute = SqliteCursor.execute

    async def noted(self: SqliteCursor, statement: str, parameters: Sequence[Any] = ()) -> Any:
        if "digest IN" in statement:
            statements.append(statement)
        return await execute(self, statement, parameters)

    monkeypatch.setattr(SqliteCursor, "execute", noted)
    return statements


async def test_a_batch_loads_its_keys_by_one_statement_and_answers_as_its_checks_alone(
    served: Served, loads: list[str]
) -> None:
    client = served.client
    good = [await client.make_key(scopes=["vps:read"]) for _ in range(30)]
    gone = await client.make_key(scopes=["vps:read"])
    await client.call("RevokeKey", key_id=gone.key.key_id)
    never = good[0].api_key.translate(str.maketrans("ab", "ba"))
    texts = [*(made.api_key for made in good), gone.api_key, never, good[1].api_key, "x", ""]
    checks = [
        messages.CheckScopeRequest(api_key=text, required_scopes=[scope], keyspace=keyspace)
        for text in texts
        for scope, keyspace in (("vps:read", ""), ("vps:write", "demo"))
    ]
    checks.append(messages.CheckScopeRequest(api_key=texts[0], required_scopes=["nothing"]))
    loads.clear()
    batch = (await client.call("BatchCheckScope", checks=checks)).results
    assert len(loads) == 1
    # Then no key is in memory but the first, with the keyspace.
    await client.apply(description="another")
    await client.call("Authenticate", api_key=texts[0])
    loads.clear()
    for check, result in zip(checks, batch, strict=True):
        (alone,) = (await client.call("BatchCheckScope", checks=[check])).results
        for one in (alone, result):
            one.response.revision = 0
        assert alone == result
    assert len(loads) == len(good), "those that are left, and the revoked one"


async def test_checks_that_wait_for_a_load_are_loaded_together_by_the_next(
    served: Served, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = served.client
    made = [await client.make_key(scopes=["vps:read"]) for _ in range(64)]
    waiting = 0
    all_wait = asyncio.Event()
    find, execute = PresentedKeys.find, SqliteCursor.execute

    async def counted(self: PresentedKeys, api_key: str, caller: Caller) -> KeyFacts | Reason:
        nonlocal waiting
        waiting += 1
        if waiting == len(made):
            all_wait.set()
        return await find(self, api_key, caller)

    async def held(self: SqliteCursor, statement: str, parameters: Sequence[Any] = ()) -> Any:
        if "digest IN" in statement:
            await asyncio.wait_for(all_wait.wait(), 60)
        return await execute(self, statement, parameters)

    monkeypatch.setattr(PresentedKeys, "find", counted)
    monkeypatch.setattr(SqliteCursor, "execute", held)
    loads.clear()
    answers = await asyncio.gather(
        *(client.call("Authenticate", api_key=one.api_key) for one in made)
    )
    assert [one.principal.key_id for one in answers] == [one.key.key_id for one in made]
    assert len(loads) <= LOADS_AT_ONCE + 1
