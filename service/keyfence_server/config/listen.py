"""Where the server listens: addresses, TLS, reflection, metrics, trusted proxies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from keyfence_server.config.group import PREFIX, CommaSeparated, Seconds, SettingsGroup
from keyfence_server.rpc.certificates import CertificateFiles
from keyfence_server.rpc.listen_addresses import (
    ListenAddress,
    TcpAddress,
    UnixAddress,
    parse_listen_address,
    parse_listen_addresses,
)
from keyfence_server.rpc.origins import Origins

_MAX_PORT = 65_535


class ListenSettings(SettingsGroup):
    """Where the server listens, and how."""

    listen: str = "127.0.0.1:50051"
    workers: int = Field(default=1, ge=1, le=256)
    trusted_proxies: Annotated[tuple[str, ...], *CommaSeparated] = ()
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_client_ca_file: Path | None = None
    tls_reload_seconds: Seconds = 10
    insecure_plaintext: bool = False
    unix_socket_mode: str = "0600"
    reflection: Literal["auto", "on", "off"] = "auto"
    metrics_listen: str | None = None
    metrics_insecure_plaintext: bool = False

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        parse_listen_addresses(value)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            Origins.trusting(value)
        except ValueError:
            raise ValueError(
                'must be addresses and networks, such as 10.0.0.0/8, or "unix"'
            ) from None
        return value

    @field_validator("metrics_listen")
    @classmethod
    def _check_metrics_listen(cls, value: str | None) -> str | None:
        if value is not None and not isinstance(parse_listen_address(value), TcpAddress):
            raise ValueError("must be HOST:PORT, for example 127.0.0.1:9464")
        return value

    @field_validator("unix_socket_mode")
    @classmethod
    def _check_unix_socket_mode(cls, value: str) -> str:
        if value not in ("0600", "0660"):
            raise ValueError('must be "0600", or "0660" to let the group in')
        return value

    @model_validator(mode="after")
    def _check_tls(self) -> ListenSettings:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("KEYFENCE_TLS_CERT_FILE and KEYFENCE_TLS_KEY_FILE go together")
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise ValueError("KEYFENCE_TLS_CLIENT_CA_FILE needs KEYFENCE_TLS_CERT_FILE")
        return self

    @model_validator(mode="after")
    def _check_workers(self) -> ListenSettings:
        if self.workers == 1:
            return self
        if not self.tcp_addresses():
            raise ValueError(
                f"KEYFENCE_LISTEN: several workers cannot share {self.listen}, since a Unix socket "
                "belongs to one process. Listen on 127.0.0.1:PORT too, or set KEYFENCE_WORKERS=1"
            )
        metrics = self.metrics_address()
        if metrics is not None and metrics.port and metrics.port + self.workers - 1 > _MAX_PORT:
            raise ValueError(
                "KEYFENCE_METRICS_LISTEN: each worker takes a port of its own, counted from this "
                f"one, and the last would be above {_MAX_PORT}"
            )
        return self

    @model_validator(mode="after")
    def _check_metrics(self) -> ListenSettings:
        address = self.metrics_address()
        if address is None or address.is_loopback or self.metrics_insecure_plaintext:
            return self
        raise ValueError(
            f"KEYFENCE_METRICS_LISTEN: other machines can reach {address}, and metrics show the "
            "names of keyspaces and their use, in the clear and without authentication. Listen on "
            "127.0.0.1, or set KEYFENCE_METRICS_INSECURE_PLAINTEXT=true where only permitted "
            "readers can reach the port"
        )

    @model_validator(mode="after")
    def _check_exposure(self) -> ListenSettings:
        exposed = self._exposed()
        if exposed and self.tls_cert_file is None and not self.insecure_plaintext:
            raise ValueError(
                f"KEYFENCE_LISTEN: other machines can reach {exposed[0]}, and without TLS every "
                "key would cross the network in the clear. Set KEYFENCE_TLS_CERT_FILE and "
                "KEYFENCE_TLS_KEY_FILE, or listen on 127.0.0.1 or unix:/PATH. If something else "
                "encrypts, set KEYFENCE_INSECURE_PLAINTEXT=true"
            )
        return self

    def addresses(self) -> tuple[ListenAddress, ...]:
        """Where to listen."""
        return parse_listen_addresses(self.listen)

    def tcp_addresses(self) -> tuple[TcpAddress, ...]:
        """Where to listen, without Unix sockets."""
        return tuple(one for one in self.addresses() if isinstance(one, TcpAddress))

    def unix_addresses(self) -> tuple[UnixAddress, ...]:
        """Where to listen, without ports."""
        return tuple(one for one in self.addresses() if isinstance(one, UnixAddress))

    def metrics_address(self) -> TcpAddress | None:
        """Where to serve metrics; None for nowhere."""
        address = (
            parse_listen_address(self.metrics_listen) if self.metrics_listen is not None else None
        )
        return address if isinstance(address, TcpAddress) else None

    def exposed_in_plaintext(self) -> tuple[ListenAddress, ...]:
        """The addresses that other machines can reach without TLS."""
        return self._exposed() if self.tls_cert_file is None else ()

    def serves_reflection(self) -> bool:
        """Whether to describe the API to clients without a credential."""
        return self.reflection == "on" or (self.reflection == "auto" and not self._exposed())

    def origins(self) -> Origins:
        """Which peers are trusted to say where a call came from."""
        return Origins.trusting(self.trusted_proxies)

    def certificate_files(self) -> CertificateFiles | None:
        """Where the certificate is; None for plaintext."""
        if self.tls_cert_file is None or self.tls_key_file is None:
            return None
        return CertificateFiles(self.tls_cert_file, self.tls_key_file, self.tls_client_ca_file)

    def variables_of_tls(self) -> str:
        """The variables that name the certificate's files."""
        names = ("tls_cert_file", "tls_key_file", "tls_client_ca_file")
        return ", ".join(PREFIX + name.upper() for name in names if getattr(self, name))

    def _exposed(self) -> tuple[TcpAddress, ...]:
        return tuple(one for one in self.tcp_addresses() if not one.is_loopback)
