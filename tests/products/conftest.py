"""A real Keyfence with the five systems, and the five applications in front of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from products.running import Applications
from support.edge.authority import Authority
from support.systems import SYSTEMS


@pytest.fixture(scope="package")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    """A server with the five systems, as their files declare them."""
    running = Authority(tmp_path_factory.mktemp("authority") / "data")
    try:
        for name in SYSTEMS:
            running.apply(name)
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="package")
def applications(authority: Authority) -> Iterator[Applications]:
    """The five applications, in one process."""
    running = Applications(authority)
    yield running
    running.stop()
