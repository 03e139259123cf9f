"""What a cached key costs in memory, in the largest catalog that can be declared."""

from __future__ import annotations

import gc
import itertools
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from keyfence_server.application.key_inputs import MAX_GRANTS
from keyfence_server.domain.catalog import FEW_GRANTS
from keyfence_server.domain.declarations import KeyspaceDeclaration, ScopeDeclaration
from keyfence_server.domain.facts import KeyFacts, compile_facts
from keyfence_server.domain.keyspaces import MAX_SCOPES, Keyspace, compile_keyspace
from support.builders import make_key

NAMES: Final = [f"scope:{number:05d}" for number in range(MAX_SCOPES)]
KEYS: Final = 1_100
"""More than the sets of scopes that a catalog remembers."""
MOST_BYTES_A_KEY: Final = 2048


@pytest.fixture(scope="module")
def keyspace() -> Keyspace:
    scopes = tuple(ScopeDeclaration(name=name) for name in NAMES)
    return compile_keyspace(KeyspaceDeclaration(name="large", scopes=scopes))


def as_stored(name: str) -> str:
    """An equal text at another place in memory, as the store gives one for each row."""
    return "".join(list(name))


def facts_of(keyspace: Keyspace, grants: Iterator[list[str]]) -> list[KeyFacts]:
    return [
        compile_facts(
            (make_key(keyspace="large", granted_scopes=tuple(map(as_stored, granted))),), keyspace
        )
        for granted in itertools.islice(grants, KEYS)
    ]


def granted_of_their_own(count: int) -> Iterator[list[str]]:
    """Grants of which no two keys have the same, spread over the whole catalog."""
    step = MAX_SCOPES // count
    return (
        [NAMES[(number * 7 + step * one) % MAX_SCOPES] for one in range(count)]
        for number in itertools.count()
    )


@pytest.mark.parametrize(
    "grants",
    [
        lambda: itertools.repeat(["*"]),
        lambda: itertools.repeat(NAMES[-256:]),
        lambda: ([name] for name in NAMES),
        lambda: granted_of_their_own(FEW_GRANTS),
        lambda: granted_of_their_own(MAX_GRANTS),
    ],
    ids=["everything", "the-same-256", "one-of-its-own", "few-of-its-own", "256-of-its-own"],
)
def test_a_cached_key_costs_at_most_two_kibibytes_beyond_what_keys_share(
    keyspace: Keyspace, grants: Callable[[], Iterator[list[str]]]
) -> None:
    """Were the names of its scopes kept with each key, it would cost eighty."""
    drawn = grants()
    # What the catalog remembers is full afterwards, and no further key has the same grants.
    shared = facts_of(keyspace, drawn)
    assert all(facts.effective for facts in shared)
    del shared
    gc.collect()
    tracemalloc.start()
    try:
        kept = facts_of(keyspace, drawn)
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The masks of keys that were used lately are the catalog's, within a bound.
    assert all(facts.effective for facts in kept)
    assert size / KEYS <= MOST_BYTES_A_KEY


def test_the_names_that_are_remembered_are_bounded(keyspace: Keyspace) -> None:
    catalog = keyspace.catalog
    everything = catalog.mask(["*"])
    for number in range(50):
        assert len(catalog.names_in(everything ^ (1 << number))) == MAX_SCOPES - 1
    tracemalloc.start()
    try:
        for number in range(50, 200):
            catalog.names_in(everything ^ (1 << number))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 4 * 2**20
