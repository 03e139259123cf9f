"""What stands around the edge in these tests: a real Keyfence, a real Envoy, a real API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.edge.authority import Authority
from support.edge.configuration import edge_config
from support.edge.envoy import Envoy, StartEnvoy
from support.edge.gateway import Gateway
from support.edge.sites import ROUTES, Site
from support.edge.upstream import Upstream
from support.systems import SYSTEMS


@pytest.fixture(scope="package")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    """A server with all five systems, and the demo, as their files declare them."""
    running = Authority(tmp_path_factory.mktemp("authority") / "data")
    try:
        for name in (*SYSTEMS, "demo"):
            running.apply(name)
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="package")
def gateway(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway as by default, but for a cookie that carries sessions."""
    running = Gateway(
        tmp_path_factory.mktemp("gateway"),
        authority.port,
        {"KEYFENCE_GATEWAY_COOKIE": "session_token"},
    )
    yield running
    running.stop()


@pytest.fixture
def account_key(authority: Authority) -> str:
    """A key that may manage its account's keys."""
    return authority.make_key("xquik")


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
def start_envoy() -> Iterator[StartEnvoy]:
    """Starts Envoys that end with the package."""
    started: list[Envoy] = []

    def start(config: dict[str, Any], token: str = "") -> Envoy:
        envoy = Envoy(config, {"KEYFENCE_EDGE_TOKEN": token})
        started.append(envoy)
        return envoy

    yield start
    for one in started:
        one.stop()


@pytest.fixture(scope="package")
def shared_sites(
    authority: Authority, shared_upstream: Upstream, start_envoy: StartEnvoy
) -> Callable[[str], Site]:
    """The edge of a system, started when it is first asked for."""
    sites: dict[str, Site] = {}

    def site_of(name: str) -> Site:
        if name not in sites:
            config = edge_config(
                keyfence_port=authority.port,
                upstream_port=shared_upstream.port,
                keyspace=name,
                routes=ROUTES[name],
            )
            envoy = start_envoy(config, authority.edge_token(name))
            sites[name] = Site(name, authority, envoy, shared_upstream)
        return sites[name]

    return site_of


@pytest.fixture
def site_of(shared_sites: Callable[[str], Site], upstream: Upstream) -> Callable[[str], Site]:
    """The edge of a system, with nothing arrived behind it yet."""
    return shared_sites


@pytest.fixture(params=SYSTEMS)
def site(request: pytest.FixtureRequest, site_of: Callable[[str], Site]) -> Site:
    """The edge of each of the five systems."""
    return site_of(request.param)
