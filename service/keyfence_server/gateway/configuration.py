"""Envoy's configuration as a gateway, made from the settings.

What it holds is no secret: a caller's credential goes on to Keyfence, which decides, and
the gateway has none of its own.
"""

from __future__ import annotations

import base64
from importlib.resources import files
from typing import Final

from keyfence_server.gateway.parts import Config, absolute, http_filter, share
from keyfence_server.gateway.replies import local_replies
from keyfence_server.gateway.request_id import usable_request_ids
from keyfence_server.gateway.rest_requests import request_script
from keyfence_server.gateway.routes import (
    BUFFER,
    CLUSTER,
    CORS,
    CSRF,
    MUTATION,
    REST_REQUESTS,
    SERVICES,
    TRANSCODER,
    cookie_reader,
    route_config,
)
from keyfence_server.gateway.settings import GatewaySettings
from keyfence_server.rpc.addresses import UnixAddress

LISTENER: Final = "gateway"

_HEAP_BYTES: Final = 1024 * 1024 * 1024
_CONNECTIONS: Final = 10_000
_STREAMS_PER_CONNECTION: Final = 100
# More than this is read of a connection only when somebody wants it.
_BUFFER_BYTES: Final = 64 * 1024
# A page of a thousand records with all that can be in them.
_MAX_RESPONSE_BYTES: Final = 64 * 1024 * 1024


def gateway_config(settings: GatewaySettings) -> Config:
    """The configuration, complete but for an admin interface."""
    return {
        "static_resources": {
            "listeners": [_listener(settings)],
            "clusters": [_cluster(settings)],
        },
        "overload_manager": _overload_manager(),
    }


def _overload_manager() -> Config:
    """What bounds all callers together: each may hold as much as the largest body."""
    heap = "envoy.resource_monitors.fixed_heap"
    kinds = "type.googleapis.com/envoy.extensions.resource_monitors"
    return {
        "refresh_interval": "0.1s",
        "resource_monitors": [
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": {
                    "@type": f"{kinds}.downstream_connections.v3.DownstreamConnectionsConfig",
                    "max_active_downstream_connections": _CONNECTIONS,
                },
            },
            {
                "name": heap,
                "typed_config": {
                    "@type": f"{kinds}.fixed_heap.v3.FixedHeapConfig",
                    "max_heap_size_bytes": _HEAP_BYTES,
                },
            },
        ],
        "actions": [
            {
                "name": f"envoy.overload_actions.{action}",
                "triggers": [{"name": heap, "threshold": {"value": value}}],
            }
            for action, value in (("shrink_heap", 0.8), ("stop_accepting_requests", 0.9))
        ],
    }


def _listener(settings: GatewaySettings) -> Config:
    address = settings.listen_address
    chain: Config = {
        "filters": [
            {
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": _connection_manager(settings),
            }
        ]
    }
    if settings.tls_cert_file is not None and settings.tls_key_file is not None:
        chain["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
                "DownstreamTlsContext",
                "common_tls_context": {
                    "alpn_protocols": ["h2", "http/1.1"],
                    "tls_certificates": [
                        {
                            "certificate_chain": {"filename": absolute(settings.tls_cert_file)},
                            "private_key": {"filename": absolute(settings.tls_key_file)},
                        }
                    ],
                },
            },
        }
    return {
        "name": LISTENER,
        "address": {"socket_address": {"address": str(address.host), "port_value": address.port}},
        # A second gateway on the port would get a share of the calls, silently.
        "enable_reuse_port": False,
        "per_connection_buffer_limit_bytes": _BUFFER_BYTES,
        "filter_chains": [chain],
    }


def _connection_manager(settings: GatewaySettings) -> Config:
    return {
        "@type": "type.googleapis.com/envoy.extensions.filters.network."
        "http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": LISTENER,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "common_http_protocol_options": {
            "headers_with_underscores_action": "REJECT_REQUEST",
            "idle_timeout": "3600s",
            "max_headers_count": 50,
        },
        "http2_protocol_options": {
            "max_concurrent_streams": _STREAMS_PER_CONNECTION,
            "initial_stream_window_size": _BUFFER_BYTES,
            "initial_connection_window_size": 1024 * 1024,
        },
        "use_remote_address": True,
        "xff_num_trusted_hops": settings.trusted_proxies,
        # One id goes through all the services of a request, and back to its sender.
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        # With gRPC's reckoning, and what is added here, no more than Keyfence takes.
        "max_request_headers_kb": 5,
        "request_headers_timeout": "10s",
        "request_timeout": "60s",
        "stream_idle_timeout": "120s",
        "server_name": "keyfence",
        "http_filters": _http_filters(settings),
        "route_config": route_config(settings),
        "local_reply_config": local_replies(),
    }


def _http_filters(settings: GatewaySettings) -> list[Config]:
    filters = [usable_request_ids()]
    if settings.cors_origins:
        filters.append(http_filter(CORS, "cors.v3.Cors"))
    filters.append(_checked_headers(settings))
    if settings.cookie is not None:
        # Asked of the routes that go by the cookie, and of no others.
        filters += [
            http_filter(CSRF, "csrf.v3.CsrfPolicy", filter_enabled=share(0)),
            cookie_reader(settings.cookie),
        ]
    descriptors = files(__package__).joinpath("descriptors.binpb").read_bytes()
    return [
        *filters,
        http_filter(MUTATION, "header_mutation.v3.HeaderMutation"),
        # No call streams. Behind this, a body is whole, and no longer than it may be.
        http_filter(
            BUFFER,
            "buffer.v3.Buffer",
            max_request_bytes=settings.max_request_bytes,
        ),
        http_filter(
            REST_REQUESTS,
            "lua.v3.Lua",
            default_source_code={"inline_string": request_script(descriptors, SERVICES)},
        ),
        http_filter("envoy.filters.http.grpc_web", "grpc_web.v3.GrpcWeb"),
        _transcoder(settings, descriptors),
        http_filter("envoy.filters.http.router", "router.v3.Router"),
    ]


def _checked_headers(settings: GatewaySettings) -> Config:
    cookie = "nil" if settings.cookie is None else f'"{settings.cookie}"'
    code = files(__package__).joinpath("headers.lua").read_text(encoding="utf-8")
    return http_filter(
        "keyfence.headers",
        "lua.v3.Lua",
        default_source_code={"inline_string": f"local COOKIE = {cookie}\n{code}"},
    )


def _transcoder(settings: GatewaySettings, descriptors: bytes) -> Config:
    return http_filter(
        TRANSCODER,
        "grpc_json_transcoder.v3.GrpcJsonTranscoder",
        proto_descriptor_bin=base64.b64encode(descriptors).decode(),
        services=list(SERVICES),
        print_options={"always_print_primitive_fields": True},
        # Errors as google.rpc.Status in the body, with their reasons.
        convert_grpc_status=True,
        match_incoming_request_route=True,
        max_request_body_size=settings.max_request_bytes,
        max_response_body_size=_MAX_RESPONSE_BYTES,
        request_validation_options={
            "reject_unknown_method": True,
            "reject_unknown_query_parameters": True,
            "reject_binding_body_field_collisions": True,
        },
    )


def _cluster(settings: GatewaySettings) -> Config:
    target = settings.target_address
    if isinstance(target, UnixAddress):
        address: Config = {"pipe": {"path": str(target.path)}}
        kind, name = "STATIC", "localhost"
    else:
        address = {"socket_address": {"address": target[0], "port_value": target[1]}}
        kind, name = "STRICT_DNS", target[0]
    cluster: Config = {
        "name": CLUSTER,
        "type": kind,
        "connect_timeout": "2s",
        # "localhost" is ::1 as well, where a server often does not listen.
        "dns_lookup_family": "ALL",
        "load_assignment": {
            "cluster_name": CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3."
                "HttpProtocolOptions",
                "explicit_http_config": {
                    "http2_protocol_options": {
                        # gRPC remembers a malformed header in the table that all callers of
                        # a connection share, and then fails their calls. So there is no table.
                        "hpack_table_size": 0,
                        "connection_keepalive": {"interval": "30s", "timeout": "5s"},
                    }
                },
            }
        },
    }
    authorities = settings.target_authorities
    if authorities is not None:
        name = settings.target_name or name
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
                "UpstreamTlsContext",
                "sni": name,
                "common_tls_context": {
                    "alpn_protocols": ["h2"],
                    "validation_context": {
                        "trusted_ca": {"filename": absolute(authorities)},
                        "match_typed_subject_alt_names": [
                            {"san_type": san, "matcher": {"exact": name}}
                            for san in ("DNS", "IP_ADDRESS")
                        ],
                    },
                },
            },
        }
    return cluster
