"""How a client reaches the server: TLS, deadlines, retries, keepalive.

Both clients share these decisions. TLS is the default wherever a network lies between.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc

from keyfence import rpcs
from keyfence._tokens import AsyncToken, TokenSource, token_source
from keyfence.errors import ConfigurationError
from keyfence.targets import is_local

CHECK_TIMEOUT_SECONDS: Final = 2.0
"""For checks: they are answered from memory, and their callers have callers waiting."""

CALL_TIMEOUT_SECONDS: Final = 15.0
"""For the rest: a mutation answers when it holds everywhere, which takes seconds when a
holder of leases has gone away."""

_ATTEMPTS: Final = 4
_INITIAL_BACKOFF_SECONDS: Final = 0.05
_MAX_BACKOFF_SECONDS: Final = 1.0
_BACKOFF_MULTIPLIER: Final = 3
_MAX_RESPONSE_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How to do TLS, where the defaults do not fit.

    Attributes:
        ca_file: the PEM certificates to trust. None: gRPC's default authorities.
        certificate_file: the client's own PEM certificate chain, for mutual TLS.
        key_file: the certificate's private key. Both or neither.
        server_name: the name that the server's certificate must have. None: the
            target's host.
    """

    ca_file: str | os.PathLike[str] | None = None
    certificate_file: str | os.PathLike[str] | None = None
    key_file: str | os.PathLike[str] | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ConfigurationError("certificate_file and key_file go together")

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files.

        Raises:
            ConfigurationError: a file cannot be read.
        """
        return grpc.ssl_channel_credentials(
            root_certificates=_read(self.ca_file, "CA file"),
            private_key=_read(self.key_file, "key file"),
            certificate_chain=_read(self.certificate_file, "certificate file"),
        )


def _read(path: str | os.PathLike[str] | None, what: str) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        # A path of several lines is what was to be in the file, and may be a private key.
        name = os.fspath(path)
        shown = f" {name!r}" if "\n" not in name else ""
        raise ConfigurationError(f"the {what}{shown} cannot be read: {error.strerror}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Everything that a channel is made from. Its `repr` does not show the token.

    Attributes:
        target: in gRPC's syntax.
        token: where the token comes from. None: calls are sent without one.
        tls: None: plaintext.
        is_local: whether the target is on this machine.
        check_timeout_seconds, timeout_seconds: deadlines for calls that name none.
    """

    target: str
    token: TokenSource | None = field(repr=False)
    tls: Tls | None
    is_local: bool
    check_timeout_seconds: float
    timeout_seconds: float

    @classmethod
    def resolve(
        cls,
        target: str | None,
        *,
        token: AsyncToken | None = None,
        tls: Tls | None = None,
        insecure_plaintext: bool = False,
        check_timeout_seconds: float = CHECK_TIMEOUT_SECONDS,
        timeout_seconds: float = CALL_TIMEOUT_SECONDS,
    ) -> Connection:
        """Completes what the caller gave from the environment, and judges it.

        Raises:
            ConfigurationError: there is no target, or the parts contradict each other.
        """
        target = target or os.environ.get("KEYFENCE_TARGET")
        if not target:
            raise ConfigurationError("no target: pass one, or set KEYFENCE_TARGET")
        if token is None:
            token = os.environ.get("KEYFENCE_TOKEN") or None
        local = is_local(target)
        if tls is not None and insecure_plaintext:
            raise ConfigurationError("tls and insecure_plaintext exclude each other")
        if tls is None and not local and not insecure_plaintext:
            tls = Tls()
        return cls(
            target=target,
            token=None if token is None else token_source(token),
            tls=tls,
            is_local=local,
            check_timeout_seconds=checked_timeout("check_timeout_seconds", check_timeout_seconds),
            timeout_seconds=checked_timeout("timeout_seconds", timeout_seconds),
        )

    def channel(self) -> grpc.Channel:
        """A new channel for threads. `keyfence._aio` opens those for event loops."""
        if self.tls is None:
            return grpc.insecure_channel(self.target, options=self.options())
        return grpc.secure_channel(self.target, self.tls.credentials(), options=self.options())

    def options(self) -> list[tuple[str, str | int]]:
        """The channel's options."""
        options: list[tuple[str, str | int]] = [
            ("grpc.service_config", service_config()),
            ("grpc.enable_retries", 1),
            ("grpc.primary_user_agent", "keyfence-python"),
            ("grpc.max_receive_message_length", _MAX_RESPONSE_BYTES),
            # A server that restarts is found again within a check's deadline.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            # One ping in five minutes is what a gRPC server tolerates by default, and
            # only while a call is under way. What matters more is the side effect: an
            # unacknowledged write ends the connection after the timeout
            # (TCP_USER_TIMEOUT), instead of a quarter of an hour later.
            ("grpc.keepalive_time_ms", 300_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 0),
        ]
        if self.is_local:
            # A proxy from the environment would carry what must stay on this machine.
            options.append(("grpc.enable_http_proxy", 0))
        if self.tls is not None and self.tls.server_name is not None:
            options.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return options


def checked_timeout(name: str, seconds: float) -> float:
    """The timeout, if it is one.

    Raises:
        ConfigurationError: it is not positive. There are no calls without a deadline.
    """
    if not 0 < seconds < float("inf"):
        raise ConfigurationError(f"{name} must be positive and finite, not {seconds}")
    return seconds


def service_config() -> str:
    """Which calls gRPC sends again, and when (gRPC proposal A6, client retries).

    Only UNAVAILABLE is retried, and CANCELLED, by which a gRPC server gives up calls that it
    has not looked at while very many are waiting; only where `Rpc.is_repeatable`, within the
    deadline of the call. The waits are about 50, 150 and 450 ms, each give or take a fifth.
    Fifty failures with few successes between them end retrying until calls succeed again, so
    that clients do not hold down a server that is trying to get up.
    """
    names = [{"service": rpc.service, "method": rpc.name} for rpc in rpcs.ALL if rpc.is_repeatable]
    return json.dumps(
        {
            "loadBalancingConfig": [{"round_robin": {}}],
            "methodConfig": [
                {
                    "name": names,
                    "retryPolicy": {
                        "maxAttempts": _ATTEMPTS,
                        "initialBackoff": f"{_INITIAL_BACKOFF_SECONDS}s",
                        "maxBackoff": f"{_MAX_BACKOFF_SECONDS}s",
                        "backoffMultiplier": _BACKOFF_MULTIPLIER,
                        "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                    },
                }
            ],
            "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
        }
    )
