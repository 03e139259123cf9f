"""The listener for gRPC: what stands before Keyfence on a port that strangers reach.

It lets through every RPC that Keyfence serves, streams as well, and decides nothing about
credentials. It bounds what one address, and what all callers together, can make Keyfence do.
"""

from __future__ import annotations

from typing import Final

from keyfence_server.gateway.cluster import ANONYMOUS, CALLS, STREAMS
from keyfence_server.gateway.listeners import (
    TIMEOUT,
    UNBUFFERED,
    bucket,
    buffer,
    checked_headers,
    connection_manager,
    listener,
)
from keyfence_server.gateway.parts import (
    Config,
    has_header,
    http_filter,
    is_method,
    lacks_header,
    share,
)
from keyfence_server.gateway.settings import GatewaySettings
from keyfence_server.rpc.listen_addresses import TcpAddress

LISTENER: Final = "grpc"

# The limits are kept for so many addresses. Beyond that, the address that has been quiet for
# longest starts anew.
_ADDRESSES: Final = 10_000
# Each address has its own bucket. This one is for what has none, and is never reached.
_UNLIMITED: Final = 1_000_000
# A network of IPv6, and not an address, is what one stranger has.
_ADDRESS: Final[Config] = {
    "masked_remote_address": {"v4_prefix_mask_len": 32, "v6_prefix_mask_len": 64}
}
_ADDRESS_KEY: Final = {"key": "masked_remote_address"}


def grpc_listener(address: TcpAddress, settings: GatewaySettings) -> Config:
    """The listener at an address."""
    manager = connection_manager(LISTENER, settings) | {
        "codec_type": "HTTP2",
        # Keyfence gives a call an id.
        "generate_request_id": False,
        "http_filters": [
            checked_headers(None, settings.trusted_proxies),
            _rate_limits(settings),
            # A call whose message does not arrive takes no place among those of Keyfence.
            buffer(settings),
            http_filter("envoy.filters.http.router", "router.v3.Router"),
        ],
        "route_config": _route_config(),
    }
    return listener(LISTENER, address, manager, settings)


def _rate_limits(settings: GatewaySettings) -> Config:
    anonymous = {
        "header_value_match": {
            "descriptor_value": "anonymous",
            "headers": [lacks_header("authorization")],
        }
    }
    return http_filter(
        "envoy.filters.http.local_ratelimit",
        "local_ratelimit.v3.LocalRateLimit",
        stat_prefix=LISTENER,
        filter_enabled=_always("enabled"),
        filter_enforced=_always("enforced"),
        # Envoy would make UNAVAILABLE of it, which clients take for a reason to try again.
        rate_limited_as_resource_exhausted=True,
        token_bucket=bucket(_UNLIMITED),
        always_consume_default_token_bucket=False,
        max_dynamic_descriptors=_ADDRESSES,
        rate_limits=[{"actions": [_ADDRESS]}, {"actions": [_ADDRESS, anonymous]}],
        # An entry without a value stands for each value, with a bucket of its own.
        descriptors=[
            {
                "entries": [_ADDRESS_KEY],
                "token_bucket": bucket(settings.max_calls_per_second_per_address),
            },
            {
                "entries": [_ADDRESS_KEY, {"key": "header_match", "value": "anonymous"}],
                "token_bucket": bucket(settings.max_anonymous_calls_per_second_per_address),
            },
        ],
    )


def _always(name: str) -> Config:
    return {"runtime_key": f"keyfence.grpc.rate_limits.{name}", **share(100)}


def _route_config() -> Config:
    is_call: Config = {"grpc": {}, "headers": [is_method("POST")]}
    has_credential = {"grpc": {}, "headers": [is_method("POST"), has_header("authorization")]}
    host = {
        "name": LISTENER,
        "domains": ["*"],
        "routes": [
            # Any client could hold such a stream open without end. Clients do not need it.
            _refused({"path": "/grpc.health.v1.Health/Watch"}),
            # The streams of holders: they last, and renew their leases all the time.
            {
                "match": {"prefix": "/keyfence.v1.ReplicationService/", **has_credential},
                "route": {"cluster": STREAMS, "timeout": "0s"},
                **UNBUFFERED,
            },
            {
                "match": {"prefix": "/grpc.reflection.", **is_call},
                "route": _unary(ANONYMOUS, longest="10s"),
                **UNBUFFERED,
            },
            {"match": {"prefix": "/", **has_credential}, "route": _unary(CALLS)},
            {"match": {"prefix": "/", **is_call}, "route": _unary(ANONYMOUS)},
            _refused({"prefix": "/"}),
        ],
    }
    return {"name": LISTENER, "virtual_hosts": [host]}


def _unary(cluster: str, longest: str = "90s") -> Config:
    # The timeout counts from the end of the request, the duration from its beginning.
    return {
        "cluster": cluster,
        "timeout": TIMEOUT,
        "max_stream_duration": {"max_stream_duration": longest},
    }


def _refused(match: Config) -> Config:
    return {
        "match": match,
        "direct_response": {"status": 404, "body": {"inline_string": "there is no such RPC here"}},
        **UNBUFFERED,
    }
