"""Limits of clients' calls and connections, and of the server's memory."""

from __future__ import annotations

from pydantic import Field, SecretStr

from keyfence_server.application.rate_limits import OnFailure
from keyfence_server.config.group import Seconds
from keyfence_server.config.listen import ListenSettings
from keyfence_server.rpc.server import Limits


class LimitSettings(ListenSettings):
    """Limits of clients' calls and connections, and of the server's memory."""

    max_concurrent_calls: int = Field(default=1_000, ge=1, le=1_000_000)
    max_connections: int = Field(default=10_000, ge=1, le=1_000_000)
    max_streams_per_connection: int = Field(default=100, ge=1, le=100_000)
    max_message_bytes: int = Field(default=4 * 1024 * 1024, ge=64 * 1024, le=64 * 1024 * 1024)
    max_metadata_bytes: int = Field(default=8 * 1024, ge=4 * 1024, le=64 * 1024)
    max_connection_idle_seconds: Seconds = 900
    max_connection_age_seconds: Seconds = 3_600
    max_connection_age_grace_seconds: Seconds = 30
    handshake_seconds: Seconds = 10
    min_ping_interval_seconds: Seconds = 10
    cache_keys: int = Field(default=100_000, ge=1, le=100_000_000)
    cache_unknown_keys: int = Field(default=10_000, ge=1, le=100_000_000)
    rate_limit_url: SecretStr | None = None
    rate_limit_on_failure: OnFailure = OnFailure.LOCAL
    rate_limit_timeout_seconds: Seconds = 0.25

    def limits(self) -> Limits:
        """Returns the limits of the gRPC server."""
        return Limits(
            concurrent_calls=self.max_concurrent_calls,
            connections=self.max_connections,
            streams_per_connection=self.max_streams_per_connection,
            message_bytes=self.max_message_bytes,
            metadata_bytes=self.max_metadata_bytes,
            connection_idle_seconds=self.max_connection_idle_seconds,
            connection_age_seconds=self.max_connection_age_seconds,
            connection_age_grace_seconds=self.max_connection_age_grace_seconds,
            handshake_seconds=self.handshake_seconds,
            ping_interval_seconds=self.min_ping_interval_seconds,
            shares_port=self.workers > 1,
        )
