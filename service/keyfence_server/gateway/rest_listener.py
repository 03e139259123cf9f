"""The listener for REST and gRPC-Web."""

from __future__ import annotations

import base64
from importlib.resources import files
from typing import Final

from keyfence_server.gateway.listeners import buffer, checked_headers, connection_manager, listener
from keyfence_server.gateway.parts import Config, http_filter, share
from keyfence_server.gateway.replies import local_replies
from keyfence_server.gateway.request_id import usable_request_ids
from keyfence_server.gateway.rest_requests import request_script
from keyfence_server.gateway.routes import (
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

LISTENER: Final = "gateway"

# A page of a thousand records with all that can be in them.
_MAX_RESPONSE_BYTES: Final = 64 * 1024 * 1024


def rest_listener(settings: GatewaySettings) -> Config:
    """The listener."""
    manager = connection_manager(LISTENER, settings) | {
        # One id goes through all the services of a request, and back to its sender.
        "always_set_request_id_in_response": True,
        "request_timeout": "60s",
        "http_filters": _http_filters(settings),
        "route_config": route_config(settings),
        "local_reply_config": local_replies(),
    }
    return listener(LISTENER, settings.listen_address, manager, settings)


def _http_filters(settings: GatewaySettings) -> list[Config]:
    filters = [usable_request_ids()]
    if settings.cors_origins:
        filters.append(http_filter(CORS, "cors.v3.Cors"))
    filters.append(checked_headers(settings.cookie, settings.trusted_proxies))
    if settings.cookie is not None:
        # Only the routes that go by the cookie ask these filters.
        filters += [
            http_filter(CSRF, "csrf.v3.CsrfPolicy", filter_enabled=share(0)),
            cookie_reader(settings.cookie),
        ]
    descriptors = files(__package__).joinpath("descriptors.binpb").read_bytes()
    return [
        *filters,
        http_filter(MUTATION, "header_mutation.v3.HeaderMutation"),
        buffer(settings),
        http_filter(
            REST_REQUESTS,
            "lua.v3.Lua",
            default_source_code={"inline_string": request_script(descriptors, SERVICES)},
        ),
        http_filter("envoy.filters.http.grpc_web", "grpc_web.v3.GrpcWeb"),
        _transcoder(settings, descriptors),
        http_filter("envoy.filters.http.router", "router.v3.Router"),
    ]


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
