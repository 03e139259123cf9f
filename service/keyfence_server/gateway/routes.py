"""The routes of REST and gRPC-Web, by a request's path and by the place of its credential.

Keyfence reads a credential from `authorization` only. So a credential that came in another
place is put there.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from keyfence_server.gateway.cluster import CALLS
from keyfence_server.gateway.listeners import BUFFER, OFF, TIMEOUT
from keyfence_server.gateway.parts import (
    Config,
    extension,
    has_header,
    header,
    header_like,
    http_filter,
    is_method,
    lacks_header,
    share,
    typed,
)
from keyfence_server.gateway.settings import GatewaySettings

CSRF: Final = "envoy.filters.http.csrf"
CORS: Final = "envoy.filters.http.cors"
MUTATION: Final = "envoy.filters.http.header_mutation"
REST_REQUESTS: Final = "keyfence.rest_requests"
TRANSCODER: Final = "envoy.filters.http.grpc_json_transcoder"

SERVICES: Final = (
    "keyfence.v1.AccountService",
    "keyfence.v1.AuditService",
    "keyfence.v1.AuthorizationService",
    "keyfence.v1.KeyService",
    "keyfence.v1.KeyspaceService",
)
"""The services that the gateway offers. It offers nothing else that Keyfence serves."""

_REST: Final = "/v1/"
_BROWSER_MARKS: Final = ("origin", "referer", "sec-fetch-site")
# An answer that needs no body must not wait for one: a stream's body has no end.
_UNREAD: Final = {TRANSCODER: OFF, REST_REQUESTS: OFF, BUFFER: OFF}
_JSON: Final = r"(?i)application/json\s*(;.*)?"


def route_config(settings: GatewaySettings) -> Config:
    """The `route_config`."""
    # POST is gRPC's only method. Keyfence's gRPC fails on another one.
    services = ({"prefix": f"/{name}/", "headers": [is_method("POST")]} for name in SERVICES)
    paths: list[Config] = [{"prefix": _REST}, *services]
    openapi = files(__package__).joinpath("openapi.json").read_text(encoding="utf-8")
    host: Config = {
        "name": "gateway",
        "domains": ["*"],
        "routes": [
            {
                "match": {"path": "/openapi.json", "headers": [is_method("GET")]},
                "direct_response": {"status": 200, "body": {"inline_string": openapi}},
                "response_headers_to_add": [header("content-type", "application/json")],
                "typed_per_filter_config": _UNREAD,
            },
            *(route for path in paths for route in _credential_routes(path, settings)),
            {
                "match": {"prefix": "/"},
                "direct_response": {
                    "status": 404,
                    "body": {"inline_string": "there is nothing here"},
                },
                "typed_per_filter_config": _UNREAD,
            },
        ],
    }
    if settings.cors_origins:
        host["typed_per_filter_config"] = {CORS: _cors_policy(settings)}
    return {
        "name": "gateway",
        "virtual_hosts": [host],
        "max_direct_response_body_size_bytes": len(openapi.encode()),
        # Their credential is in `authorization` by now, and Keyfence reads no other header.
        "request_headers_to_remove": ["x-api-key", "cookie"],
    }


def cookie_reader(cookie: str) -> Config:
    """The filter that puts a cookie's credential into the request's metadata."""
    return http_filter(
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


def _credential_routes(path: Config, settings: GatewaySettings) -> list[Config]:
    """The routes of one path, by where the credential is. `headers.lua` has made sure that it
    is in one place only."""
    routes = [
        _to_keyfence(
            _with_headers(path, has_header("x-api-key")), _credential_is("Bearer %REQ(x-api-key)%")
        )
    ]
    if settings.cookie is not None:
        name = settings.cookie.replace(".", "[.]")
        in_cookie = header_like("cookie", rf"(.*[;,])?\s*{name}\s*=.*")
        credential = _credential_is(f"Bearer %DYNAMIC_METADATA(keyfence:{settings.cookie})%")
        routes += [
            _to_keyfence(_with_headers(path, in_cookie, *headers), credential)
            for headers in _not_from_a_page()
        ]
        # Refuses changes that a page of another origin makes a browser send: it adds cookies to
        # such requests.
        csrf = typed("extensions.filters.http.csrf.v3.CsrfPolicy", filter_enabled=share(100))
        guarded = {**credential, CSRF: csrf}
        routes.append(_to_keyfence(_with_headers(path, in_cookie), guarded))
    return [*routes, _to_keyfence(path, {})]


def _with_headers(path: Config, *headers: Config) -> Config:
    return {**path, "headers": [*path.get("headers", ()), *headers]}


def _not_from_a_page() -> list[list[Config]]:
    """Matches requests that a browser cannot have sent for a page of another origin.

    With each method but GET and HEAD a browser sends `Origin`, and newer ones also
    `Sec-Fetch-Site`. Some very old browsers send neither with a form. But a form can only POST,
    and not JSON. A script of another origin must ask before it does either, and is refused.
    """
    unmarked = [lacks_header(name) for name in _BROWSER_MARKS]
    return [
        [*unmarked, {**is_method("POST"), "invert_match": True}],
        [*unmarked, header_like("content-type", _JSON)],
    ]


def _credential_is(value: str) -> Config:
    return {
        MUTATION: typed(
            "extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
            mutations={"request_mutations": [{"append": header("authorization", value)}]},
        )
    }


def _to_keyfence(match: Config, policies: Config) -> Config:
    route: Config = {
        "match": match,
        "route": {
            "cluster": CALLS,
            "timeout": TIMEOUT,
            "max_stream_duration": {},
            # A name may have several addresses, and the server listen on some of them. Without
            # a connection nothing has been sent, so trying another one is safe.
            "retry_policy": {
                "retry_on": "connect-failure",
                "num_retries": 3,
                "retry_host_predicate": [
                    extension(
                        "retry_host_predicates.previous_hosts",
                        "retry.host.previous_hosts.v3.PreviousHostsPredicate",
                    )
                ],
                "host_selection_retry_max_attempts": 5,
            },
        },
        # Answers are about keys and accounts, and some contain a key.
        "response_headers_to_add": [header("cache-control", "no-store")],
        "typed_per_filter_config": dict(policies),
    }
    if match["prefix"] != _REST:
        route["typed_per_filter_config"][REST_REQUESTS] = OFF
    return route


def _cors_policy(settings: GatewaySettings) -> Config:
    origins: list[Config] = [
        {"safe_regex": {"regex": ".*"}} if origin == "*" else {"exact": origin}
        for origin in settings.cors_origins
    ]
    return typed(
        "extensions.filters.http.cors.v3.CorsPolicy",
        allow_origin_string_match=origins,
        allow_methods="GET, POST, PUT, PATCH, DELETE",
        allow_headers="authorization, content-type, grpc-timeout, x-api-key, x-grpc-web, "
        "x-request-id, x-user-agent",
        expose_headers="grpc-message, grpc-status, grpc-status-details-bin, x-request-id",
        max_age="600",
    )
