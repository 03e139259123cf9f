"""Envoy's configuration as a gateway, made from the settings.

What it holds is no secret: a caller's credential goes on to Keyfence, which decides, and
the gateway has none of its own.
"""

from __future__ import annotations

import base64
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from keyfence_server.gateway.settings import GatewaySettings
from keyfence_server.rpc.addresses import UnixAddress

Config = dict[str, Any]

LISTENER: Final = "gateway"

_CLUSTER: Final = "keyfence"
_FILTERS: Final = "type.googleapis.com/envoy.extensions.filters.http"
_TRANSCODER: Final = "envoy.filters.http.grpc_json_transcoder"
_MUTATION: Final = "envoy.filters.http.header_mutation"
_CSRF: Final = "envoy.filters.http.csrf"
_CORS: Final = "envoy.filters.http.cors"

_UNTRANSCODED: Final = {
    _TRANSCODER: {
        "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig",
        "disabled": True,
    }
}

SERVICES: Final = (
    "keyfence.v1.AccountService",
    "keyfence.v1.AuditService",
    "keyfence.v1.AuthorizationService",
    "keyfence.v1.KeyService",
    "keyfence.v1.KeyspaceService",
)
"""What the gateway offers. Anything else that Keyfence serves is not for the world."""

# A mutation waits until it holds everywhere.
_TIMEOUT: Final = "60s"
_CONNECTIONS: Final = 10_000


def gateway_config(settings: GatewaySettings) -> Config:
    """The configuration, complete but for an admin interface."""
    return {
        "static_resources": {
            "listeners": [_listener(settings)],
            "clusters": [_cluster(settings)],
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.resource_monitors."
                        "downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": _CONNECTIONS,
                    },
                }
            ]
        },
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
                            "certificate_chain": {"filename": _absolute(settings.tls_cert_file)},
                            "private_key": {"filename": _absolute(settings.tls_key_file)},
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
        "per_connection_buffer_limit_bytes": settings.max_request_bytes,
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
        },
        "use_remote_address": True,
        "xff_num_trusted_hops": settings.trusted_proxies,
        # One id goes through all the services of a request, and back to its sender.
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "max_request_headers_kb": 16,
        "request_headers_timeout": "10s",
        "stream_idle_timeout": "120s",
        "server_name": "keyfence",
        "http_filters": _http_filters(settings),
        "route_config": _routes(settings),
    }


def _http_filters(settings: GatewaySettings) -> list[Config]:
    filters = []
    if settings.cors_origins:
        filters.append(_filter(_CORS, "cors.v3.Cors"))
    if settings.cookie is not None:
        # Asked of the routes that go by the cookie, and of no others.
        filters += [
            _filter(_CSRF, "csrf.v3.CsrfPolicy", filter_enabled=_share(0)),
            _cookie_reader(settings.cookie),
        ]
    return [
        *filters,
        _filter(_MUTATION, "header_mutation.v3.HeaderMutation"),
        _filter("envoy.filters.http.grpc_web", "grpc_web.v3.GrpcWeb"),
        _transcoder(settings),
        _filter("envoy.filters.http.router", "router.v3.Router"),
    ]


def _transcoder(settings: GatewaySettings) -> Config:
    descriptors = files(__package__).joinpath("descriptors.binpb").read_bytes()
    return _filter(
        _TRANSCODER,
        "grpc_json_transcoder.v3.GrpcJsonTranscoder",
        proto_descriptor_bin=base64.b64encode(descriptors).decode(),
        services=list(SERVICES),
        print_options={"always_print_primitive_fields": True},
        # Errors as google.rpc.Status in the body, with their reasons.
        convert_grpc_status=True,
        match_incoming_request_route=True,
        max_request_body_size=settings.max_request_bytes,
        request_validation_options={
            "reject_unknown_method": True,
            "reject_unknown_query_parameters": True,
        },
    )


def _routes(settings: GatewaySettings) -> Config:
    openapi = files(__package__).joinpath("openapi.json").read_text(encoding="utf-8")
    host: Config = {
        "name": LISTENER,
        "domains": ["*"],
        "routes": [
            {
                "match": {"path": "/openapi.json", "headers": [_method("GET")]},
                "direct_response": {"status": 200, "body": {"inline_string": openapi}},
                "response_headers_to_add": [_header("content-type", "application/json")],
                "typed_per_filter_config": _UNTRANSCODED,
            },
            *(route for path in _offered_paths() for route in _credential_routes(path, settings)),
            {
                "match": {"prefix": "/"},
                "direct_response": {"status": 404},
                "typed_per_filter_config": _UNTRANSCODED,
            },
        ],
    }
    if settings.cors_origins:
        host["typed_per_filter_config"] = {_CORS: _cors_policy(settings)}
    return {
        "name": LISTENER,
        "virtual_hosts": [host],
        "max_direct_response_body_size_bytes": len(openapi.encode()),
        # One address and no list: the client's, as far as proxies that are trusted have said
        # it. What clients write into the header themselves goes no further.
        "request_headers_to_add": [
            _header("x-forwarded-for", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%")
        ],
        # Keyfence itself sets none of these, and believes some.
        "request_headers_to_remove": ["x-api-key", "cookie"],
    }


def _offered_paths() -> list[Config]:
    return [{"prefix": "/v1/"}, *({"prefix": f"/{service}/"} for service in SERVICES)]


def _credential_routes(path: Config, settings: GatewaySettings) -> list[Config]:
    """The same path, by where the credential is: Keyfence takes it from one place.

    Two places at once are refused, whatever they hold.
    """
    places = {
        "authorization": _has_header("authorization"),
        "x-api-key": _has_header("x-api-key"),
    }
    values = {"x-api-key": "Bearer %REQ(x-api-key)%"}
    if settings.cookie is not None:
        places["cookie"] = _has_cookie(settings.cookie)
        values["cookie"] = f"Bearer %DYNAMIC_METADATA(keyfence:{settings.cookie})%"
    routes: list[Config] = []
    names = list(places)
    for index, one in enumerate(names):
        routes += [
            {
                "match": {**path, "headers": [places[one], places[other]]},
                "direct_response": {
                    "status": 400,
                    "body": {"inline_string": '{"code": 3, "message": "send one credential"}'},
                },
                "response_headers_to_add": [_header("content-type", "application/json")],
            }
            for other in names[index + 1 :]
        ]
    for name, value in values.items():
        mutation = {
            "@type": f"{_FILTERS}.header_mutation.v3.HeaderMutationPerRoute",
            "mutations": {"request_mutations": [{"append": _header("authorization", value)}]},
        }
        policies = {_MUTATION: mutation}
        if name == "cookie":
            policies[_CSRF] = _csrf_policy()
        match = {**path, "headers": [places[name]]}
        routes.append({**_to_keyfence(match), "typed_per_filter_config": policies})
    return [*routes, _to_keyfence(path)]


def _to_keyfence(path: Config) -> Config:
    return {
        "match": path,
        "route": {"cluster": _CLUSTER, "timeout": _TIMEOUT, "max_stream_duration": {}},
    }


def _cookie_reader(cookie: str) -> Config:
    return _filter(
        "envoy.filters.http.header_to_metadata",
        "header_to_metadata.v3.Config",
        request_rules=[
            {
                "cookie": cookie,
                "on_header_present": {
                    "metadata_namespace": "keyfence",
                    "key": cookie,
                    "type": "STRING",
                },
            }
        ],
    )


def _csrf_policy() -> Config:
    """Refuses what changes something and comes from a page of another origin: browsers
    send cookies along with such requests unasked."""
    return {"@type": f"{_FILTERS}.csrf.v3.CsrfPolicy", "filter_enabled": _share(100)}


def _cors_policy(settings: GatewaySettings) -> Config:
    origins: list[Config] = [
        {"safe_regex": {"regex": ".*"}} if origin == "*" else {"exact": origin}
        for origin in settings.cors_origins
    ]
    return {
        "@type": f"{_FILTERS}.cors.v3.CorsPolicy",
        "allow_origin_string_match": origins,
        "allow_methods": "GET, POST, PUT, PATCH, DELETE",
        "allow_headers": "authorization, content-type, grpc-timeout, x-api-key, x-grpc-web, "
        "x-request-id, x-user-agent",
        "expose_headers": "grpc-message, grpc-status, grpc-status-details-bin, x-request-id",
        "max_age": "600",
    }


def _cluster(settings: GatewaySettings) -> Config:
    target = settings.target_address
    if isinstance(target, UnixAddress):
        address: Config = {"pipe": {"path": str(target.path)}}
        kind, name = "STATIC", "localhost"
    else:
        address = {"socket_address": {"address": target[0], "port_value": target[1]}}
        kind, name = "STRICT_DNS", target[0]
    cluster: Config = {
        "name": _CLUSTER,
        "type": kind,
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": _CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3."
                "HttpProtocolOptions",
                "explicit_http_config": {
                    "http2_protocol_options": {
                        "connection_keepalive": {"interval": "30s", "timeout": "5s"}
                    }
                },
            }
        },
    }
    if settings.target_ca_file is not None:
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
                        "trusted_ca": {"filename": _absolute(settings.target_ca_file)},
                        "match_typed_subject_alt_names": [
                            {"san_type": san, "matcher": {"exact": name}}
                            for san in ("DNS", "IP_ADDRESS")
                        ],
                    },
                },
            },
        }
    return cluster


def _filter(name: str, kind: str, **fields: object) -> Config:
    return {"name": name, "typed_config": {"@type": f"{_FILTERS}.{kind}", **fields}}


def _header(name: str, value: str) -> Config:
    return {
        "header": {"key": name, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


def _share(percent: int) -> Config:
    return {"default_value": {"numerator": percent, "denominator": "HUNDRED"}}


def _method(verb: str) -> Config:
    return {"name": ":method", "string_match": {"exact": verb}}


def _has_header(name: str) -> Config:
    return {"name": name, "present_match": True}


def _has_cookie(cookie: str) -> Config:
    pattern = f"(.*;)?\\s*{cookie.replace('.', '[.]')}=.*"
    return {"name": "cookie", "string_match": {"safe_regex": {"regex": pattern}}}


def _absolute(path: Path) -> str:
    return str(path.absolute())
