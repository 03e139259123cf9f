"""What stands around the edge in these tests: a real Keyfence, a real Envoy, a real API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.edge.authority import Authority
from support.edge.envoy import Envoy
from support.edge.upstream import Upstream
from support.systems import SYSTEMS


@pytest.fixture(scope="package")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    """A server with all five systems as their files declare them."""
    running = Authority(tmp_path_factory.mktemp("authority") / "data")
    try:
        for name in SYSTEMS:
            running.apply(name)
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="package")
def shared_upstream() -> Iterator[Upstream]:
    """The API behind the edge, for the whole package."""
    running = Upstream()
    yield running
    running.close()


@pytest.fixture
def upstream(shared_upstream: Upstream) -> Upstream:
    """The same, with nothing arrived yet."""
    shared_upstream.take()
    return shared_upstream


@pytest.fixture(scope="package")
def start_envoy() -> Iterator[type[Envoy]]:
    """Starts Envoys that end with the package."""
    started: list[Envoy] = []

    def start(*arguments: object, **named: object) -> Envoy:
        envoy = Envoy(*arguments, **named)
        started.append(envoy)
        return envoy

    yield start
    for one in started:
        one.stop()
