"""Answers without a lease: only where an operator has set it, and only while no grantor answers."""

from __future__ import annotations

from typing import Final

import pytest

from application.authority import PEPPERS, Authority
from coherence.watched_store import WatchedStore
from keyfence.holder.lease import HolderLease
from keyfence_server.application.create_key import MadeKey
from keyfence_server.application.ports import StoreRefuses, StoreUnavailable
from keyfence_server.application.presented_keys import PresentedKeys
from keyfence_server.coherence.leased_facts import fresh_memory_per_question
from keyfence_server.coherence.stale_if_error import StaleIfError
from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.secrets import Peppers

LEASE: Final = 2.0
BOUND: Final = 60.0


class Stage:
    """One process with a lease, on a clock that the test moves."""

    def __init__(self, authority: Authority, watched: WatchedStore) -> None:
        self.time = 1_000.0
        self.lease = HolderLease()
        self.watched = watched
        cache = authority.cache
        without_lease = fresh_memory_per_question(watched)
        self.source = StaleIfError(cache, self.lease, self, without_lease, BOUND)
        self.presented = PresentedKeys(self.source, Peppers(PEPPERS))
        # It has memory already, of the authority that it stands for.
        self.lease.grant(self.lease.request(self.time), LEASE, cache.revision)

    def now(self) -> float:
        return self.time

    async def sleep_until(self, when: float) -> None:
        self.time = when

    async def reason(self, made: MadeKey) -> str:
        """What is said of the key: the reason, or that nothing is."""
        try:
            found = await self.presented.find(made.plaintext.reveal())
        except StoreUnavailable:
            return "unavailable"
        if not isinstance(found, KeyFacts):
            return found.name
        return "stale" if found.is_stale else "known"


@pytest.fixture
async def made(authority: Authority) -> MadeKey:
    made = await authority.make(scopes=["vps:read"])
    await authority.check(made, "vps:read")
    return made


@pytest.fixture
def stage(authority: Authority, watched: WatchedStore, made: MadeKey) -> Stage:
    del made
    return Stage(authority, watched)


async def test_memory_answers_after_the_lease_for_as_long_as_was_asked_for(
    stage: Stage, made: MadeKey
) -> None:
    assert await stage.reason(made) == "known"
    stage.watched.is_away = True
    stage.time += LEASE
    assert await stage.reason(made) == "stale"
    assert stage.source.answers > 0
    stage.time += BOUND - 0.001
    assert await stage.reason(made) == "stale"
    stage.time += 0.001
    assert await stage.reason(made) == "unavailable"


async def test_a_grantor_that_can_be_reached_is_asked(
    stage: Stage, made: MadeKey, authority: Authority
) -> None:
    """A process that was suspended comes back without a lease, and with a store."""
    stage.time += LEASE
    await authority.revoke(None, made.facts.key_id)
    found = await stage.presented.find(made.plaintext.reveal())
    assert isinstance(found, KeyFacts)
    assert found.key.revoke_time is not None
    assert not found.is_stale


async def test_what_memory_lacks_is_not_made_up(stage: Stage, authority: Authority) -> None:
    """That a key does not exist, least of all."""
    never_seen = await authority.make(scopes=["vps:read"])
    stage.watched.is_away = True
    stage.time += LEASE
    assert await stage.reason(never_seen) == "unavailable"


async def test_a_process_that_is_refused_answers_nothing(stage: Stage, made: MadeKey) -> None:
    """A process whose own credential is revoked can ask: it is told that it may not know."""
    stage.time += LEASE
    for _ in range(3):
        stage.watched.fail_next_snapshot(StoreRefuses("no"))
        assert await stage.reason(made) == "unavailable"


async def test_that_a_text_looks_like_no_key_is_not_said_from_memory(stage: Stage) -> None:
    """Its keyspace may be new."""
    stage.watched.is_away = True
    stage.time += LEASE
    with pytest.raises(StoreUnavailable):
        await stage.presented.find("looks_like_nothing_that_is_known_here")


async def test_a_process_that_has_given_up_its_lease_answers_nothing(
    stage: Stage, made: MadeKey
) -> None:
    stage.lease.abandon()
    stage.watched.is_away = True
    assert await stage.reason(made) == "unavailable"


async def test_a_store_that_does_not_answer_is_not_asked_each_time(
    stage: Stage, made: MadeKey
) -> None:
    """Or each check would wait for what the one before has waited for in vain."""
    stage.watched.is_away = True
    stage.time += LEASE
    await stage.reason(made)
    asked = stage.watched.snapshots
    for _ in range(10):
        assert await stage.reason(made) == "stale"
    assert stage.watched.snapshots == asked
    stage.watched.is_away = False
    stage.time += 1.0
    before = stage.source.answers
    assert await stage.reason(made) == "known"
    assert stage.source.answers == before
