"""The gateway's settings. Each is an environment variable: `KEYFENCE_GATEWAY_` and a name.

The gateway does not start with a setting that is misspelt or malformed. What each setting does
stands in docs/gateway.md alone, a line for each.
"""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from keyfence.targets import is_local
from keyfence_server.config import CommaSeparated, SettingsGroup
from keyfence_server.rpc.listen_addresses import TcpAddress, UnixAddress, parse_listen_address

PREFIX: Final = "KEYFENCE_GATEWAY_"

_HOST_PORT: Final = re.compile(
    r"(?P<host>[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})"
)
_COOKIE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ORIGIN: Final = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?|\*")


class GatewaySettings(SettingsGroup):
    """Everything that can be set."""

    model_config = SettingsConfigDict(env_prefix=PREFIX)

    listen: str = "127.0.0.1:8080"
    grpc_listen: str | None = None
    target: str = "127.0.0.1:50051"
    target_ca_file: Path | None = None
    target_name: str | None = None
    target_insecure_plaintext: bool = False
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    insecure_plaintext: bool = False
    cookie: str | None = None
    cors_origins: Annotated[tuple[str, ...], *CommaSeparated] = ()
    trusted_proxies: int = Field(default=0, ge=0, le=10)
    max_request_bytes: int = Field(default=1024 * 1024, ge=1_024, le=64 * 1024 * 1024)
    max_connections: int = Field(default=5_000, ge=1, le=1_000_000)
    max_connections_per_second: int = Field(default=500, ge=1, le=1_000_000)
    max_streams_per_connection: int = Field(default=100, ge=1, le=10_000)
    max_concurrent_calls: int = Field(default=900, ge=1, le=1_000_000)
    max_concurrent_anonymous_calls: int = Field(default=50, ge=1, le=1_000_000)
    max_streams: int = Field(default=5_000, ge=1, le=1_000_000)
    max_calls_per_second_per_address: int = Field(default=2_000, ge=1, le=1_000_000)
    max_anonymous_calls_per_second_per_address: int = Field(default=20, ge=1, le=1_000_000)
    # More detailed levels would show headers, and credentials in them.
    log_level: Literal["info", "warning", "error"] = "warning"

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError('an origin is like https://app.example.com, or "*" for all')
        return value

    @field_validator("listen", "grpc_listen")
    @classmethod
    def _check_listen(cls, value: str | None) -> str | None:
        if value is not None:
            _parse_tcp(value)
        return value

    @field_validator("target")
    @classmethod
    def _check_target(cls, value: str) -> str:
        if value.startswith("unix:"):
            parse_listen_address(value)
        elif (found := _HOST_PORT.fullmatch(value)) is None or not 0 < int(found["port"]) < 65_536:
            raise ValueError("must be HOST:PORT or unix:/PATH, for example 127.0.0.1:50051")
        return value

    @field_validator("cookie")
    @classmethod
    def _check_cookie(cls, value: str | None) -> str | None:
        if value is not None and not _COOKIE.fullmatch(value):
            raise ValueError("must be a cookie's name: letters, digits and '._-'")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> GatewaySettings:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError(f"{PREFIX}TLS_CERT_FILE and {PREFIX}TLS_KEY_FILE go together")
        self._check_exposed("LISTEN", self.listen_address)
        if self.grpc_listen_address is not None:
            self._check_exposed("GRPC_LISTEN", self.grpc_listen_address)
        if self.target_insecure_plaintext and self.target_ca_file is not None:
            raise ValueError(
                f"{PREFIX}TARGET_INSECURE_PLAINTEXT and {PREFIX}TARGET_CA_FILE exclude each other"
            )
        if self._target_needs_tls and self.target_authorities is None:
            raise ValueError(
                f"{PREFIX}TARGET_CA_FILE: the connection to {self.target} uses TLS, and this "
                "machine has no CA certificates of its own; set it to the file of the CA"
            )
        if self.cookie is not None and self.cors_origins:
            raise ValueError(
                f"{PREFIX}COOKIE and {PREFIX}CORS_ORIGINS exclude each other: a page of another "
                "origin must not send requests with a user's cookie"
            )
        return self

    def _check_exposed(self, name: str, address: TcpAddress) -> None:
        has_tls = self.tls_cert_file is not None
        if not (address.is_loopback or has_tls or self.insecure_plaintext):
            raise ValueError(
                f"{PREFIX}{name}: {address.host} can be reached from other machines, and without "
                f"TLS every credential would cross the network in the clear. Set "
                f"{PREFIX}TLS_CERT_FILE and {PREFIX}TLS_KEY_FILE, or listen on 127.0.0.1. If "
                f"something else encrypts, set {PREFIX}INSECURE_PLAINTEXT=true"
            )

    @property
    def listen_address(self) -> TcpAddress:
        """Where to listen for REST and gRPC-Web."""
        return _parse_tcp(self.listen)

    @property
    def grpc_listen_address(self) -> TcpAddress | None:
        """Where to listen for gRPC; None: nowhere."""
        return None if self.grpc_listen is None else _parse_tcp(self.grpc_listen)

    @property
    def target_authorities(self) -> Path | None:
        """The authorities that Keyfence's certificate must come from; None: no TLS. A Unix socket
        never uses TLS."""
        if self.target.startswith("unix:"):
            return None
        if self.target_ca_file is not None:
            return self.target_ca_file
        if not self._target_needs_tls:
            return None
        found = ssl.get_default_verify_paths().cafile
        return None if found is None else Path(found)

    @property
    def _target_needs_tls(self) -> bool:
        return not (self.target_insecure_plaintext or is_local(self.target))

    @property
    def target_address(self) -> tuple[str, int] | UnixAddress:
        """Where Keyfence is: a host and a port, or a socket."""
        if self.target.startswith("unix:"):
            address = parse_listen_address(self.target)
            if isinstance(address, UnixAddress):
                return address
        host, _, port = self.target.rpartition(":")
        return host.strip("[]"), int(port)


def _parse_tcp(value: str) -> TcpAddress:
    address = parse_listen_address(value)
    if not isinstance(address, TcpAddress):
        raise ValueError("must be HOST:PORT, for example 127.0.0.1:8080")  # noqa: TRY004
    return address
