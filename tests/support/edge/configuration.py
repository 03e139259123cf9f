"""The configuration that people copy, with the addresses of a test and a system's routes.

What a test runs is deploy/envoy/envoy.yaml: every filter, limit and refusal in it. Only the
addresses, the routes and the time for a check are changed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

_FILE: Final = Path(__file__).parents[3] / "deploy" / "envoy" / "envoy.yaml"
_MARK: Final = re.compile(r"(?<=^    )#(?=\S|  )", re.MULTILINE)
_FILTER: Final = "envoy.filters.http.ext_authz"
_PER_ROUTE: Final = (
    "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"
)

Config = dict[str, Any]


@dataclass(frozen=True)
class Route:
    """A route to the upstream.

    Attributes:
        path: itself and all beneath it.
        scopes: what it needs; None: any good credential.
        extensions: what its `context_extensions` say, if not just the scopes.
    """

    method: str
    path: str
    scopes: str | None = None
    extensions: dict[str, str] | None = None


def example_config(*, with_tls: bool = False) -> Config:
    """The file as it stands, or with TLS to Keyfence, as its comment says."""
    text = _FILE.read_text()
    if with_tls:
        text, count = _MARK.subn("", text)
        assert count > 1
    config: Config = yaml.safe_load(text)
    return config


def edge_config(
    *,
    keyfence_port: int | None = None,
    keyfence_socket: Path | None = None,
    upstream_port: int,
    keyspace: str | None = None,
    routes: Sequence[Route | Config] | None = None,
    authorities: Path | None = None,
    check_timeout: str | None = "20s",
) -> Config:
    """The file for these addresses, and with these routes instead of its own.

    Args:
        authorities: the CA certificates to trust for Keyfence at 127.0.0.1. None: no TLS.
        check_timeout: after which Envoy refuses a request. Within the second of the file, a busy
            machine does not always answer. None: as in the file.
    """
    config = example_config(with_tls=authorities is not None)
    listener = config["static_resources"]["listeners"][0]
    listener["address"]["socket_address"]["port_value"] = 0
    addresses: dict[str, Config] = {
        "upstream": _address(upstream_port),
        "keyfence": (
            _address(keyfence_port)
            if keyfence_port is not None
            else {"pipe": {"path": str(keyfence_socket)}}
        ),
    }
    for cluster in config["static_resources"]["clusters"]:
        endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        endpoint["address"] = addresses[cluster["name"]]
        if authorities is not None and cluster["name"] == "keyfence":
            context = cluster["transport_socket"]["typed_config"]
            validation = context["common_tls_context"]["validation_context"]
            validation["trusted_ca"]["filename"] = str(authorities)
            (name,) = validation["match_typed_subject_alt_names"]
            name["san_type"] = "IP_ADDRESS"
            context["sni"] = name["matcher"]["exact"] = "127.0.0.1"
    if check_timeout is not None:
        ext_authz(config)["grpc_service"]["timeout"] = check_timeout
    host = virtual_host(config)
    if keyspace is not None:
        settings = host["typed_per_filter_config"][_FILTER]["check_settings"]
        settings["context_extensions"]["keyspace"] = keyspace
    if routes is not None:
        first, *_, last = host["routes"]
        host["routes"] = [first, *map(_route, routes), last]
    return config


def connection_manager(config: Config) -> Config:
    """What the file says of HTTP."""
    chain = config["static_resources"]["listeners"][0]["filter_chains"][0]
    manager: Config = chain["filters"][-1]["typed_config"]
    return manager


def virtual_host(config: Config) -> Config:
    """The one virtual host, with its routes."""
    host: Config = connection_manager(config)["route_config"]["virtual_hosts"][0]
    return host


def ext_authz(config: Config) -> Config:
    """What the file says of Keyfence."""
    authz: Config = connection_manager(config)["http_filters"][0]["typed_config"]
    return authz


def _address(port: int) -> Config:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _route(route: Route | Config) -> Config:
    if not isinstance(route, Route):
        return route
    extensions = route.extensions
    if extensions is None:
        extensions = (
            {"authenticate_only": "true"}
            if route.scopes is None
            else {"required_scopes": route.scopes}
        )
    return {
        "match": {
            "path_separated_prefix": route.path,
            "headers": [{"name": ":method", "string_match": {"exact": route.method}}],
        },
        "route": {"cluster": "upstream"},
        "typed_per_filter_config": {
            _FILTER: {"@type": _PER_ROUTE, "check_settings": {"context_extensions": extensions}}
        },
    }
