"""What clients may ask of the server, and how much memory it uses for them."""

from __future__ import annotations

from pydantic import Field, SecretStr

from keyfence_server.application.rate_limits import OnFailure
from keyfence_server.config.group import Seconds
from keyfence_server.config.listen import ListenSettings
from keyfence_server.rpc.server import Limits


class LimitSettings(ListenSettings):
    """What clients may ask of the server.

    Attributes:
        max_concurrent_calls: calls under way, of all clients together.
        max_connections: of all clients together.
        max_streams_per_connection: calls that one connection may have open.
        max_message_bytes: the largest request.
        max_metadata_bytes: all metadata of a call together.
        max_connection_idle_seconds: until a connection without calls is closed.
        max_connection_age_seconds: until any connection is closed, for a new one.
        max_connection_age_grace_seconds: what calls on such a connection have left.
        handshake_seconds: how long a new connection has for its handshake.
        min_ping_interval_seconds: clients may not ping more often.
        cache_keys: how many keys to remember.
        cache_unknown_keys: how many keys that do not exist to remember.
        rate_limit_url: the Redis in which servers count rate limits together:
            "redis://…", "rediss://…" or "redis+unix:///path". Not set: this server counts
            by itself.
        rate_limit_on_failure: how checks of limited keys are answered while that Redis is
            away: "local", "allow" or "deny".
        rate_limit_timeout_seconds: how long a check waits for it.
    """

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
        """What one client may ask of the server."""
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
