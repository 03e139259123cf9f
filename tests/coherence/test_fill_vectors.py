"""A server's memory keeps and discards facts as every holder must: spec/vectors/fills.json."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import pytest

from coherence.watched_store import until
from keyfence_server.application.ports import (
    Change,
    ChangeKind,
    FactStore,
    FoundKey,
    LoadedKeys,
)
from keyfence_server.coherence.fact_cache import FactCache
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.domain.secrets import Digest
from support.builders import make_key, make_keyspace

_VECTORS: Final[list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[2] / "spec" / "vectors" / "fills.json").read_text()
)
_KINDS: Final = {
    "key_id": ChangeKind.KEY,
    "keyspace": ChangeKind.KEYSPACE,
    "account_id": ChangeKind.ACCOUNT,
    "session_id": ChangeKind.SESSION,
}
_OTHER_EPOCH: Final = "facts of another epoch"
"""A server reads one database, and begins anew with an empty memory when the epoch changes."""


@dataclass
class _Snapshot:
    """A snapshot of one keyspace."""

    keyspace: Keyspace
    revision: int

    async def list_keyspaces(self, *, after: str | None, limit: int) -> list[Keyspace]:
        assert limit
        return [] if after else [self.keyspace]

    async def find_keyspace(self, name: str) -> Keyspace | None:
        return self.keyspace if name == self.keyspace.name else None


class _Store:
    """Every reading shows revision `shows`. While `holds` is set, a reading waits until the
    test sets its revision."""

    def __init__(self) -> None:
        self.keyspace = make_keyspace()
        self.key = make_key("key_1", account_id="acct_1")
        self.shows = 0
        self.waiting: list[asyncio.Future[int]] = []
        self.holds = False

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[_Snapshot]:
        yield _Snapshot(self.keyspace, await self._shown())

    async def load_keys(self, questions: Sequence[Sequence[Digest]]) -> LoadedKeys:
        return LoadedKeys(await self._shown(), [FoundKey((self.key,), None) for _ in questions])

    async def _shown(self) -> int:
        if not self.holds:
            return self.shows
        revision: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.waiting.append(revision)
        return await revision


@pytest.mark.parametrize(
    "case", [one for one in _VECTORS if one["name"] != _OTHER_EPOCH], ids=lambda one: one["name"]
)
async def test_fills_are_kept_as_the_vectors_say(case: dict[str, Any]) -> None:
    store = _Store()
    cache = FactCache(cast("FactStore", store))
    load: asyncio.Task[Any] | None = None
    for step in case["steps"]:
        match step["do"]:
            case "start":
                cache.start_at(step["head"])
                store.shows = step["head"]
            case "begin":
                await cache.recogniser()
                store.holds = True
                load = asyncio.ensure_future(cache.find_facts([store.key.digest]))
                await until(lambda: bool(store.waiting))
            case "end":
                loads = cache.counts.store_loads
                store.holds = False
                store.waiting.pop().set_result(step["revision"])
                assert load is not None
                # Discarded facts are loaded again, and show the newest revision then.
                store.shows = max(cache.revision, step["revision"])
                await load
                assert (cache.counts.store_loads == loads) is step["kept"], step
            case "known":
                assert (cache.recall(store.key.digest.value) is not None) is step["is"], step
            case "change":
                _apply(cache, step)
            case unknown:
                raise AssertionError(f"there is no step {unknown}")


def _apply(cache: FactCache, step: dict[str, Any]) -> None:
    changes = [Change(kind, step[name], "demo") for name, kind in _KINDS.items() if step.get(name)]
    if changes:
        cache.apply(step["revision"], changes)
    else:
        # What a sidecar does with a change of a kind that it does not know.
        cache.start_at(step["revision"])


def test_every_vector_but_one_is_run() -> None:
    assert _OTHER_EPOCH in {one["name"] for one in _VECTORS}
