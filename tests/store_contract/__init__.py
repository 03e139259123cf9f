"""What every store promises, as tests: the ports' docstrings, sentence by sentence.

A backend's own test is a factory of harnesses and one call:

    TestSqlite = store_contract(sqlite_harness, except_for={Category.X: "the reason"})

Nothing here knows which database is behind the store. What a database cannot do is a `Category`,
and a backend that leaves a category out says why.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

import pytest

from store_contract.accounts import AccountsContract
from store_contract.audit import AuditContract
from store_contract.availability import AvailabilityContract
from store_contract.cancellation import CancellationContract
from store_contract.concurrency import ConcurrencyContract
from store_contract.finding import FindingContract
from store_contract.groups import GroupsContract
from store_contract.harness import Category, Harness, Topic, category_of
from store_contract.importing import ImportingContract
from store_contract.lineage import LineageContract
from store_contract.listing import ListingContract
from store_contract.mutating import MutatingContract
from store_contract.searching import SearchingContract
from store_contract.spans import SpanContract
from store_contract.uses import UsesContract

TOPICS: Final[tuple[type[Topic], ...]] = (
    FindingContract,
    LineageContract,
    ListingContract,
    SearchingContract,
    SpanContract,
    MutatingContract,
    GroupsContract,
    ImportingContract,
    AuditContract,
    UsesContract,
    AccountsContract,
    ConcurrencyContract,
    CancellationContract,
    AvailabilityContract,
)

__all__ = ["TOPICS", "Category", "Harness", "store_contract"]


def store_contract(
    make_harness: Callable[[pytest.FixtureRequest], Harness],
    *,
    except_for: Mapping[Category, str],
) -> type[Topic]:
    """Makes the class of tests that holds a backend to the contract.

    Args:
        make_harness: makes the harness of one test. It may ask for fixtures.
        except_for: the categories that the backend does not keep, each with the reason.

    Raises:
        ValueError: an exception has no reason.
    """
    for which, reason in except_for.items():
        if not reason.strip():
            raise ValueError(f"say why the backend is excepted from {which!r}")

    # Made outside the event loop, in which a fixture of the backend's could not start one.
    def made_harness(_self: Topic, request: pytest.FixtureRequest) -> Harness:
        return make_harness(request)

    async def harness(_self: Topic, made_harness: Harness) -> AsyncIterator[Harness]:
        yield made_harness
        await made_harness.close()

    left_out = {
        name: None
        for topic in TOPICS
        for name in vars(topic)
        if category_of(getattr(topic, name)) in except_for
    }
    fixtures = {"made_harness": pytest.fixture(made_harness), "harness": pytest.fixture(harness)}
    return type("StoreContract", TOPICS, {**fixtures, **left_out})
