"""A Redis of each test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.redis import RedisServer


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A running Redis, empty."""
    server = RedisServer()
    try:
        server.start()
        yield server
    finally:
        server.close()
