"""The dependencies by which routes say what they need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi.requests import HTTPConnection

from keyfence.asgi import Guard
from keyfence.errors import CallFailed
from keyfence.results import Principal


@dataclass(frozen=True)
class Requires:
    """The dependency `requires`."""

    guard: Guard
    scopes: tuple[str, ...]

    async def __call__(self, connection: HTTPConnection) -> Principal:
        return await self.guard.admit(connection.scope, *self.scopes)


@dataclass(frozen=True, eq=False)
class Acts:
    """A dependency whose handler makes calls in the caller's name: errors of these calls end the
    request with the product's answer."""

    guard: Guard
    make: Callable[[Any], Awaitable[object]]
    names: Mapping[str, str]

    async def __call__(self, connection: HTTPConnection) -> AsyncIterator[Any]:
        try:
            yield await self.make(connection.scope)
        except CallFailed as error:
            raise self.guard.denied_by(error, connection.scope, self.names) from None


async def nothing(_scope: Any) -> None:
    """What a dependency gives that only turns errors into answers."""


def says_something(dependant: Any) -> bool:
    """Whether a dependency of the guard is in the tree."""
    if dependant is None:
        return False
    return isinstance(dependant.call, Requires | Acts) or any(
        map(says_something, dependant.dependencies)
    )
