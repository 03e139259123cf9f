"""Keyfence, as Envoy reaches it.

There are three clusters, all of them the same server. Each has connections and a limit of calls
under way of its own, so that calls without a credential cannot take the places of others.
"""

from __future__ import annotations

from typing import Final

from keyfence_server.gateway.parts import Config, absolute, extension, typed
from keyfence_server.gateway.settings import GatewaySettings
from keyfence_server.rpc.listen_addresses import UnixAddress

CALLS: Final = "keyfence"
STREAMS: Final = "keyfence_streams"
ANONYMOUS: Final = "keyfence_anonymous"


def clusters(settings: GatewaySettings) -> list[Config]:
    """The clusters that the listeners' routes name."""
    calls = _cluster(CALLS, settings, settings.max_concurrent_calls)
    if settings.grpc_listen is None:
        return [calls]
    return [
        calls,
        _cluster(STREAMS, settings, settings.max_streams),
        _cluster(ANONYMOUS, settings, settings.max_concurrent_anonymous_calls),
    ]


def _cluster(name: str, settings: GatewaySettings, calls: int) -> Config:
    target = settings.target_address
    if isinstance(target, UnixAddress):
        address: Config = {"pipe": {"path": str(target.path)}}
        kind, host = "STATIC", "localhost"
    else:
        address = {"socket_address": {"address": target[0], "port_value": target[1]}}
        kind, host = "STRICT_DNS", target[0]
    cluster: Config = {
        "name": name,
        "type": kind,
        "connect_timeout": "2s",
        # "localhost" is ::1 as well, where a server often does not listen.
        "dns_lookup_family": "ALL",
        "circuit_breakers": {
            "thresholds": [{"max_requests": calls, "max_pending_requests": calls}]
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "extensions.upstreams.http.v3.HttpProtocolOptions",
                explicit_http_config={
                    "http2_protocol_options": {
                        # gRPC keeps a malformed header in the table that all callers of a
                        # connection share, and then fails their calls. So there is no table.
                        "hpack_table_size": 0,
                        "connection_keepalive": {"interval": "30s", "timeout": "5s"},
                    }
                },
            )
        },
    }
    authorities = settings.target_authorities
    if authorities is not None:
        expected = settings.target_name or host
        cluster["transport_socket"] = extension(
            "transport_sockets.tls",
            "transport_sockets.tls.v3.UpstreamTlsContext",
            sni=expected,
            common_tls_context={
                "alpn_protocols": ["h2"],
                "validation_context": {
                    "trusted_ca": {"filename": absolute(authorities)},
                    "match_typed_subject_alt_names": [
                        {"san_type": san, "matcher": {"exact": expected}}
                        for san in ("DNS", "IP_ADDRESS")
                    ],
                },
            },
        )
    return cluster
