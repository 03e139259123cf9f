"""The five systems' HTTP APIs as far as their pages show them: which route needs what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from support.edge.authority import Authority
from support.edge.configuration import Config
from support.edge.envoy import Envoy
from support.edge.http import Answer, Headers, bearer, send
from support.edge.upstream import Upstream
from support.systems import SYSTEMS

_PRODUCTS: Final = Path(__file__).parents[3] / "examples" / "products"


def _routes_of(name: str) -> list[Config] | None:
    file = _PRODUCTS / name / "envoy-routes.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else None


ROUTES: Final[Mapping[str, list[Config] | None]] = {name: _routes_of(name) for name in SYSTEMS}
"""The routes that the examples have for Envoy. None: those of deploy/envoy/envoy.yaml itself."""

ANY_GOOD_KEY: Final[Mapping[str, tuple[str, str, tuple[str, ...]]]] = {
    "quicksrv": ("GET", "/api/v1/instances", ("vps:read",)),
    "sitequest": ("GET", "/v1/servers", ("vps:read",)),
    "quantumsafe": ("POST", "/v1/scan", ()),
    "xquik": ("GET", "/api/v1/account", ()),
    "supascale": ("GET", "/api/v1/projects", ("projects:read",)),
}
"""A request of each system that its key may send, and the scopes that the key needs."""


@dataclass(frozen=True)
class Site:
    """One system, from its edge to what is behind it."""

    name: str
    authority: Authority
    envoy: Envoy
    upstream: Upstream

    @property
    def port(self) -> int:
        """Where the edge listens."""
        return self.envoy.ports["edge"]

    def key(self, *scopes: str, **fields: object) -> str:
        """A key of the system, made by its operator."""
        return self.authority.make_key(self.name, *scopes, **fields)

    def usual_key(self) -> str:
        """A key that the usual request needs."""
        return self.key(*ANY_GOOD_KEY[self.name][2])

    def usual(self, headers: Headers) -> Answer:
        """Sends the usual request with these headers."""
        method, path, _ = ANY_GOOD_KEY[self.name]
        return self.send(method, path, headers)

    def send(self, method: str, path: str, headers: Headers = (), body: bytes = b"") -> Answer:
        """Sends a request to the edge."""
        return send(self.port, method, path, headers, body)

    def with_key(self, api_key: str, method: str, path: str) -> Answer:
        """Sends a request with a key as a bearer token."""
        return self.send(method, path, [bearer(api_key)])

    def revoke(self, api_key: str) -> None:
        """Revokes a key, known by its plaintext."""
        self.authority.operator.revoke_key(self.authority.key_id_of(api_key, self.name))


def essential(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """An answer's headers without those that differ from one answer to the next."""
    return {
        name.lower(): value
        for name, value in headers
        if name.lower() not in {"date", "x-request-id", "x-envoy-upstream-service-time"}
    }
