"""What a backend gives the contract, and how the contract is made a test of that backend."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, Protocol, TypeVar

import pytest

from keyfence_server.application.ports import Store

_Test = TypeVar("_Test", bound=Callable[..., Any])
_CATEGORY: Final = "store_contract_category"


class Category(StrEnum):
    """What not every database does. A test of it carries the category."""

    READS_FAIL_WITHOUT_THE_DATABASE = "reads fail while the database is away"
    READS_OUTLAST_THE_DATABASE = "reads go on while the database is away"


class Harness(Protocol):
    """A database to open stores on, and a hand on its switch."""

    async def open(self, *, patient: bool = True) -> Store:
        """Opens one more store on the same database. The harness closes it.

        Args:
            patient: whether it waits for other writers as long as a server does. A test that takes
                the database away does not want to.
        """
        ...

    async def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Reads past the stores."""
        ...

    async def count_open_transactions(self) -> int:
        """How many connections of all processes are in a transaction."""
        ...

    async def take_away(self) -> None:
        """Makes the database unavailable, connections in use included."""
        ...

    async def give_back(self) -> None:
        """Makes it available again, touching no store."""
        ...

    async def close(self) -> None:
        """Closes what was opened."""
        ...


class Topic:
    """What each part of the contract works with."""

    @pytest.fixture
    def harness(self) -> Harness:
        """The database. `store_contract` replaces this."""
        raise AssertionError("a topic is run by `store_contract`, which has the harness")

    @pytest.fixture
    async def store(self, harness: Harness) -> Store:
        """A store that is empty."""
        return await harness.open()

    @pytest.fixture
    async def impatient_store(self, harness: Harness) -> Store:
        """A store that is empty and soon says that its database is away."""
        return await harness.open(patient=False)


def category(which: Category) -> Callable[[_Test], _Test]:
    """Marks a test of what not every database does."""

    def mark(test: _Test) -> _Test:
        setattr(test, _CATEGORY, which)
        return test

    return mark


def category_of(test: object) -> Category | None:
    """The category that a test is marked with."""
    found: Category | None = getattr(test, _CATEGORY, None)
    return found
