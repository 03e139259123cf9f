"""What a cached key costs in memory, in the largest catalog that can be declared."""

from __future__ import annotations

import gc
import itertools
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from keyfence_server.domain.declarations import KeyspaceDeclaration, ScopeDeclaration
from keyfence_server.domain.facts import KeyFacts, compile_facts
from keyfence_server.domain.keyspaces import MAX_SCOPES, Keyspace, compile_keyspace
from support.builders import make_key

NAMES: Final = [f"scope:{number:05d}" for number in range(MAX_SCOPES)]
KEYS: Final = 200
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


@pytest.mark.parametrize(
    "grants",
    [
        lambda: itertools.repeat(["*"]),
        lambda: itertools.repeat(NAMES[-256:]),
        lambda: ([name] for name in NAMES),
    ],
    ids=["everything", "the-same-256", "one-of-its-own"],
)
def test_a_cached_key_costs_at_most_two_kibibytes_beyond_what_keys_share(
    keyspace: Keyspace, grants: Callable[[], Iterator[list[str]]]
) -> None:
    """Were the names of its scopes kept with each key, it would cost eighty."""
    shared = facts_of(keyspace, grants())
    assert len(shared[0].effective_scopes) > 0
    gc.collect()
    tracemalloc.start()
    try:
        kept = facts_of(keyspace, grants())
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(kept) == KEYS
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
