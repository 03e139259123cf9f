"""What the gateway's listeners have in common: their limits on connections, streams and headers.

A stranger can open a connection and send anything. So each limit here holds before a
credential is known.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from keyfence_server.gateway.parts import Config, absolute, extension, http_filter, typed
from keyfence_server.gateway.settings import GatewaySettings
from keyfence_server.rpc.listen_addresses import TcpAddress

BUFFER_BYTES: Final = 64 * 1024
"""How much of one connection or stream is buffered."""

TIMEOUT: Final = "60s"
"""For one call. A mutation waits until it holds everywhere, which takes seconds at most."""

BUFFER: Final = "envoy.filters.http.buffer"
OFF: Final = typed("config.route.v3.FilterConfig", disabled=True)
"""What a route says of a filter that it does without."""

UNBUFFERED: Final[Config] = {"typed_per_filter_config": {BUFFER: OFF}}
"""For routes whose requests need not, or cannot, arrive whole before they are answered."""

_TLS_HANDSHAKE_SECONDS: Final = 10


def listener(
    name: str, address: TcpAddress, connection_manager: Config, settings: GatewaySettings
) -> Config:
    """A listener for HTTP, with TLS if the settings have a certificate."""
    chain: Config = {
        "filters": [
            extension(
                "filters.network.connection_limit",
                "filters.network.connection_limit.v3.ConnectionLimit",
                stat_prefix=name,
                max_connections=settings.max_connections,
            ),
            extension(
                "filters.network.http_connection_manager",
                "filters.network.http_connection_manager.v3.HttpConnectionManager",
                **connection_manager,
            ),
        ]
    }
    if settings.tls_cert_file is not None and settings.tls_key_file is not None:
        chain["transport_socket_connect_timeout"] = f"{_TLS_HANDSHAKE_SECONDS}s"
        chain["transport_socket"] = extension(
            "transport_sockets.tls",
            "transport_sockets.tls.v3.DownstreamTlsContext",
            common_tls_context={
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [
                    {
                        "certificate_chain": {"filename": absolute(settings.tls_cert_file)},
                        "private_key": {"filename": absolute(settings.tls_key_file)},
                    }
                ],
            },
        )
    return {
        "name": name,
        "address": {"socket_address": {"address": str(address.host), "port_value": address.port}},
        # A second gateway on the port would get a share of the calls, unnoticed.
        "enable_reuse_port": False,
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "listener_filters": [
            extension(
                "filters.listener.local_ratelimit",
                "filters.listener.local_ratelimit.v3.LocalRateLimit",
                stat_prefix=name,
                token_bucket=bucket(settings.max_connections_per_second),
            )
        ],
        "filter_chains": [chain],
    }


def connection_manager(name: str, settings: GatewaySettings) -> Config:
    """What both listeners demand of HTTP."""
    return {
        "stat_prefix": name,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "common_http_protocol_options": {
            "headers_with_underscores_action": "REJECT_REQUEST",
            "idle_timeout": "3600s",
            "max_headers_count": 50,
        },
        "http2_protocol_options": {
            "max_concurrent_streams": settings.max_streams_per_connection,
            "initial_stream_window_size": BUFFER_BYTES,
            "initial_connection_window_size": 1024 * 1024,
            # Answers to pings, settings and resets that a client does not read.
            "max_outbound_control_frames": 100,
            "max_outbound_frames": 1_000,
            "max_inbound_priority_frames_per_stream": 10,
            # A client that is gone without a word keeps its places until it is asked.
            "connection_keepalive": {"interval": "60s", "timeout": "20s"},
        },
        "use_remote_address": True,
        "xff_num_trusted_hops": settings.trusted_proxies,
        "preserve_external_request_id": True,
        # With what gRPC adds to the size, and what is added here, this is what Keyfence accepts.
        "max_request_headers_kb": 5,
        "request_headers_timeout": "10s",
        "stream_idle_timeout": "120s",
        "server_name": "keyfence",
    }


def buffer(settings: GatewaySettings) -> Config:
    """The filter behind which a body is whole, and within its limit."""
    return http_filter(BUFFER, "buffer.v3.Buffer", max_request_bytes=settings.max_request_bytes)


def checked_headers(cookie: str | None, trusted_proxies: int) -> Config:
    """The filter of `headers.lua`.

    Args:
        cookie: the cookie that may carry a credential.
        trusted_proxies: how many proxies write "x-forwarded-for" before the gateway.
    """
    text = "nil" if cookie is None else f'"{cookie}"'
    code = files(__package__).joinpath("headers.lua").read_text(encoding="utf-8")
    constants = f"local COOKIE, PROXIES = {text}, {trusted_proxies}\n"
    return http_filter(
        "keyfence.headers", "lua.v3.Lua", default_source_code={"inline_string": constants + code}
    )


def bucket(per_second: int) -> Config:
    """A token bucket that holds what two seconds bring."""
    return {"max_tokens": 2 * per_second, "tokens_per_fill": per_second, "fill_interval": "1s"}
