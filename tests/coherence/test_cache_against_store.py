"""The cache against the store, through any sequence of mutations, checks and losses."""

from __future__ import annotations

import asyncio
import shutil
from collections import defaultdict
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from application.authority import ACME, PEPPERS, Authority
from coherence.watched_store import Gate, Loss, WatchedStore
from keyfence_server.adapters.sql import open_store
from keyfence_server.application.create_key import MadeKey
from keyfence_server.application.ports import ChangeKind, FoundKey, StoreUnavailable
from keyfence_server.domain.errors import DomainError
from keyfence_server.domain.facts import compile_facts
from keyfence_server.domain.keys import KeyState
from keyfence_server.domain.reasons import Reason
from keyfence_server.domain.secrets import Peppers
from support.clock import FrozenClock

T = TypeVar("T")

CAPACITY = 3
UNKNOWN_CAPACITY = 2
GRANTS: Final[tuple[list[str], ...]] = (["*"], ["vps:write"], ["dns:read"], [])
some_key = st.integers(0, 99)


class CacheAgainstStore(RuleBasedStateMachine):
    """Mutates through the use cases, and holds each answer against the store itself."""

    founded: ClassVar[Path]
    directory: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        path = self.directory / "store.db"
        path.unlink(missing_ok=True)
        shutil.copy(self.founded, path)
        self._store = WatchedStore(self.run(open_store(f"sqlite:///{path}")))
        self._keys: list[MadeKey] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    @initialize()
    def start(self) -> None:
        self._authority = Authority(
            self._store, FrozenClock(), capacity=CAPACITY, unknown_capacity=UNKNOWN_CAPACITY
        )
        self.run(self._authority.start())
        self.make(GRANTS[0], 0, as_child=False)

    @rule(scopes=st.sampled_from(GRANTS), which=some_key, as_child=st.booleans())
    def make(self, scopes: list[str], which: int, *, as_child: bool) -> None:
        parent = self._pick(which).facts.key_id if as_child and self._keys else ""
        try:
            made = self.run(self._authority.make(scopes=scopes, parent_key_id=parent))
        except DomainError:
            return
        self._keys.append(made)

    @rule(which=some_key)
    def revoke(self, which: int) -> None:
        self.run(self._authority.revoke(None, self._pick(which).facts.key_id))

    @rule(which=some_key, state=st.sampled_from([KeyState.ACTIVE, KeyState.DISABLED]))
    def set_state(self, which: int, state: KeyState) -> None:
        self._try(self._authority.update(None, self._pick(which).facts.key_id, state=state))

    @rule(which=some_key, scopes=st.sampled_from(GRANTS))
    def set_scopes(self, which: int, scopes: list[str]) -> None:
        key_id = self._pick(which).facts.key_id
        self._try(self._authority.update(None, key_id, granted_scopes=scopes))

    @rule(which=some_key)
    def rotate(self, which: int) -> None:
        rotated = self._try(self._authority.rotate(None, self._pick(which).facts.key_id))
        if rotated is not None:
            self._keys.append(rotated.successor)

    @rule(cap=st.sampled_from([(), ("dns:read",), ("vps:read",)]))
    def declare(self, cap: tuple[str, ...]) -> None:
        kinds = (replace(ACME.key_types[0], scope_cap=cap), ACME.key_types[1])
        self.run(self._authority.declare(ACME, key_types=kinds))

    @rule(which=some_key, loss=st.sampled_from(Loss))
    def lose_a_revocation(self, which: int, loss: Loss) -> None:
        key_id = self._pick(which).facts.key_id
        self._store.lose_next_commit(loss)
        try:
            self.run(self._authority.revoke(None, key_id))
        except StoreUnavailable:
            return
        self._store._losses.clear()

    @rule(which=some_key, other=some_key)
    def revoke_during_a_load(self, which: int, other: int) -> None:
        async def both() -> None:
            self._authority.cache.clear()
            await self._authority.cache.recogniser()
            gate: Gate = self._store.hold_next_snapshot()
            check = asyncio.ensure_future(self._authority.check(self._pick(which)))
            await gate.arrival()
            await self._authority.revoke(None, self._pick(other).facts.key_id)
            gate.open()
            await check

        self.run(both())

    @rule()
    def ask_for_an_unknown_key(self) -> None:
        form = self._pick(0).facts.keyspace.forms["secret", "live"]
        assert self.run(self._authority.check(form.mint())).reason is Reason.KEY_UNKNOWN

    @rule()
    def forget(self) -> None:
        self._authority.cache.clear()

    @rule(which=some_key)
    def check(self, which: int) -> None:
        """The answer is what the store says at this moment."""
        made = self._pick(which)
        verdict = self.run(self._authority.check(made, "vps:read"))
        assert verdict.facts is not None
        expected = self.run(self._truth(made))
        assert verdict.facts.lineage == expected.lineage
        assert verdict.facts.effective_scopes == expected.effective_scopes
        reason = expected.reason_at(self._authority.clock.timestamp(), None)
        if reason is Reason.OK and "vps:read" not in expected.effective_scopes:
            reason = Reason.SCOPE_MISSING
        assert verdict.reason is reason

    @invariant()
    def is_bounded_and_its_index_is_right(self) -> None:
        if not hasattr(self, "_authority"):
            return
        cache = self._authority.cache
        assert len(cache) <= CAPACITY
        assert cache.unknown_count <= UNKNOWN_CAPACITY
        by_key, by_account = defaultdict(set), defaultdict(set)
        for digest, facts in cache._entries.items():
            by_account[facts.key.account_id].add(digest)
            for key in facts.lineage:
                by_key[key.key_id].add(digest)
        assert cache._entries._names_by[ChangeKind.KEY] == by_key
        assert cache._entries._names_by[ChangeKind.ACCOUNT] == by_account
        assert not cache._fills
        assert not cache._awaited
        assert all(revision > cache.revision for revision in cache._ahead)

    @invariant()
    def claims_no_revision_that_it_has_not_seen(self) -> None:
        if hasattr(self, "_authority"):
            assert self._authority.cache.revision <= self.run(self._authority.revision())

    def teardown(self) -> None:
        self.run(self._store.close())
        self._runner.close()

    def _pick(self, which: int) -> MadeKey:
        return self._keys[which % len(self._keys)]

    def _try(self, work: Coroutine[Any, Any, T]) -> T | None:
        try:
            return self.run(work)
        except DomainError:
            return None

    async def _truth(self, made: MadeKey) -> Any:
        candidates = Peppers(PEPPERS).candidates(made.plaintext.reveal())
        (found,) = (await self._store.load_keys([candidates])).answers
        async with self._store.snapshot() as snapshot:
            keyspace = await snapshot.find_keyspace("acme")
        assert isinstance(found, FoundKey)
        assert keyspace is not None
        return compile_facts(found.lineage, keyspace)


def test_the_cache_answers_what_the_store_says(
    founded_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    CacheAgainstStore.founded = founded_database
    CacheAgainstStore.directory = tmp_path_factory.mktemp("machine")
    run_state_machine_as_test(
        CacheAgainstStore,
        settings=settings(max_examples=15, stateful_step_count=25, deadline=None),
    )
