"""Envoy's configuration as a gateway, made from the settings.

It holds no secret: a caller's credential goes on to Keyfence, which decides, and the gateway has
no credential of its own.
"""

from __future__ import annotations

from typing import Final

from keyfence_server.gateway.cluster import clusters
from keyfence_server.gateway.grpc_listener import grpc_listener
from keyfence_server.gateway.parts import Config, extension, typed
from keyfence_server.gateway.rest_listener import rest_listener
from keyfence_server.gateway.settings import GatewaySettings

_HEAP_BYTES: Final = 1024 * 1024 * 1024
_RUNTIME: Final[Config] = {
    "overload": {
        # Envoy closes a connection once more than half of so many streams were reset within a
        # second.
        "premature_reset_total_stream_count": 200,
        "premature_reset_min_stream_lifetime_seconds": 1,
    },
    # How many requests of one connection Envoy takes before it serves the next connection.
    "http": {"max_requests_per_io_cycle": 10},
}


def gateway_config(settings: GatewaySettings) -> Config:
    """The configuration, complete except for an admin interface."""
    listeners = [rest_listener(settings)]
    if (address := settings.grpc_listen_address) is not None:
        listeners.append(grpc_listener(address, settings))
    return {
        "static_resources": {"listeners": listeners, "clusters": clusters(settings)},
        "overload_manager": _overload_manager(settings.max_connections * len(listeners)),
        "layered_runtime": {"layers": [{"name": "keyfence", "static_layer": _RUNTIME}]},
    }


def _overload_manager(max_connections: int) -> Config:
    """The limits of all callers together: each may hold as much as the largest body."""
    return {
        "refresh_interval": "0.1s",
        "resource_monitors": [
            extension(
                "resource_monitors.global_downstream_max_connections",
                "resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                max_active_downstream_connections=max_connections,
            ),
            extension(
                "resource_monitors.fixed_heap",
                "resource_monitors.fixed_heap.v3.FixedHeapConfig",
                max_heap_size_bytes=_HEAP_BYTES,
            ),
        ],
        "actions": [
            _action("shrink_heap", {"threshold": {"value": 0.8}}),
            # The more memory is taken, the sooner a stream or a connection that is idle ends,
            # and streams that hold the most of it first.
            {**_action("reduce_timeouts", _rising(0.7, 0.9)), "typed_config": _IDLE_TIMEOUTS},
            _action("reset_high_memory_stream", _rising(0.8, 0.9)),
            _action("stop_accepting_requests", {"threshold": {"value": 0.9}}),
            _action("stop_accepting_connections", {"threshold": {"value": 0.95}}),
        ],
        # Streams count from 128 KiB on, as the logarithm says.
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": 17},
    }


_IDLE_TIMEOUTS: Final = typed(
    "config.overload.v3.ScaleTimersOverloadActionConfig",
    timer_scale_factors=[
        {"timer": f"HTTP_DOWNSTREAM_{idle}_IDLE", "min_timeout": "5s"}
        for idle in ("CONNECTION", "STREAM")
    ],
)


def _action(name: str, trigger: Config) -> Config:
    return {
        "name": f"envoy.overload_actions.{name}",
        "triggers": [{"name": "envoy.resource_monitors.fixed_heap", **trigger}],
    }


def _rising(from_share: float, to_share: float) -> Config:
    return {"scaled": {"scaling_threshold": from_share, "saturation_threshold": to_share}}
