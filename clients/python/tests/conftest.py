"""A scripted authority, and one way to call both clients."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import settings

from clients.python.tests.authority import Authority
from keyfence import AsyncClient, Client

# How long an example takes says more about the machine than about the code.
settings.register_profile("unhurried", deadline=None, max_examples=50, print_blob=True)
settings.load_profile("unhurried")


class Caller:
    """Calls a client's methods, whichever kind it is."""

    def __init__(self, kind: type[AsyncClient | Client], *args: Any, **kwargs: Any) -> None:
        self.client: Any = kind(*args, **kwargs)

    async def __call__(self, method: str, *args: Any, **kwargs: Any) -> Any:
        function = getattr(self.client, method)
        if inspect.iscoroutinefunction(function):
            return await function(*args, **kwargs)
        return await asyncio.to_thread(function, *args, **kwargs)

    async def all_of(self, listing: Any) -> list[Any]:
        if hasattr(listing, "__aiter__"):
            return [item async for item in listing]
        return await asyncio.to_thread(list, listing)


@pytest.fixture(params=[AsyncClient, Client], ids=["async", "sync"])
def kind(request: pytest.FixtureRequest) -> Any:
    """Each of the two client classes in turn."""
    return request.param


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEYFENCE_TARGET", raising=False)
    monkeypatch.delenv("KEYFENCE_TOKEN", raising=False)


@pytest.fixture
async def authority() -> AsyncIterator[Authority]:
    server = Authority()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def call(authority: Authority, kind: Any) -> AsyncIterator[Caller]:
    """A client of the authority, with the token "kf_system_token"."""
    caller = Caller(kind, authority.target, token="kf_system_token")
    yield caller
    await caller("close")
