"""The server's settings, by environment: every one is `KEYFENCE_` and a name from here.

A setting that is misspelt, malformed or contradicts another keeps the server from
starting, since it was meant to do something, and what it was meant to do may have
been to keep somebody out. No message repeats a value that could be a secret.
"""

from __future__ import annotations

import difflib
import os
import random
import re
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from keyfence import Tls
from keyfence_server.adapters.passwords import MEMORY_MIB, PASSES, WORKERS
from keyfence_server.application.rate_limits import OnFailure
from keyfence_server.coherence.terms import LeaseTerms
from keyfence_server.domain.document_fields import parse_duration
from keyfence_server.domain.redaction import looks_like_a_key
from keyfence_server.rpc.addresses import (
    ListenAddress,
    TcpAddress,
    UnixAddress,
    parse_address,
    parse_addresses,
)
from keyfence_server.rpc.certificates import CertificateFiles
from keyfence_server.rpc.origins import Origins
from keyfence_server.rpc.server import Limits
from keyfence_server.telemetry.logs import LogFormat, LogLevel

PREFIX: Final = "KEYFENCE_"
DATABASE_FILE: Final = "keyfence.db"
MAX_PORT: Final = 65_535
MAX_STALE: Final = timedelta(days=1)
_OF_AUTHORITIES: Final = (
    "database_url",
    "bootstrap_keyspaces",
    "pepper",
    "pepper_file",
    "root_key",
)

_OF_CLIENTS: Final = frozenset(
    PREFIX + name for name in ("TARGET", "TOKEN", "TOKEN_FILE", "CA_FILE", "TRACEBACK")
)
# `keyfence gateway` looks through its own.
_OF_GATEWAY: Final = f"{PREFIX}GATEWAY_"
# Kubernetes sets these for a Service that is called "keyfence", in every container.
_OF_KUBERNETES: Final = re.compile(r"KEYFENCE_(SERVICE_(HOST|PORT)|PORT)(_[A-Z0-9_]+)?")

_VERSIONED_SECRET: Final = re.compile(r"[0-9]+:")

Seconds = Annotated[float, Field(gt=0, le=86_400 * 366)]


def _may_be_a_secret(path: Path) -> bool:
    """Whether a path is rather a PEM text, a versioned secret or a credential."""
    text = str(path)
    if "\n" in text or _VERSIONED_SECRET.match(text):
        return True
    return len(path.parts) == 1 and looks_like_a_key(text) and not path.exists()


class InvalidSettings(Exception):
    """The server cannot start with these settings.

    Attributes:
        problems: each names its variable, what is wrong and what to do.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Reflection(StrEnum):
    """Whether the server tells its API to whoever asks, without a credential.

    `AUTO` does so if only this machine can ask.
    """

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class Settings(BaseSettings):
    """Everything that can be set. The variable of a field is `KEYFENCE_` and its name.

    Attributes:
        listen: addresses, separated by commas: "127.0.0.1:50051", "[::]:50051",
            "unix:/run/keyfence/keyfence.sock".
        workers: how many processes serve, on one port of this host. A Unix socket beside
            it is the first one's.
        data_dir: where the embedded database, the pepper, the first credential and the
            lock are.
        database_url: "postgresql://…", or "sqlite:///…". Not set: a file in `data_dir`.
        root_key: the first operator credential. Not set: one is made at first start, and
            written to `root.key` in `data_dir`.
        pepper: peppers, a line for each: "1:BASE64" of at least 32 bytes.
        pepper_file: a file with such lines, instead of `pepper`.
        session_key: keys that sign sessions, a line for each: "1:BASE64" of 32 bytes. Not
            set: with an embedded database, a file in `data_dir`; with PostgreSQL nobody can
            log in.
        session_key_file: a file with such lines, instead of `session_key`.
        password_memory_mib: what hashing a password takes, for so long.
        password_passes: and how often it goes over that. A password that was hashed with
            less is hashed anew when its owner next logs in.
        password_workers: how many passwords are hashed at once.
        trusted_proxies: networks whose `x-forwarded-for` counts, separated by commas;
            "unix" for whoever connects over a Unix socket.
        bootstrap_keyspaces: files of keyspaces, separated by commas, that are applied at
            the first start and never again.
        upstream: servers to answer for, separated by commas, in gRPC's syntax. Set: this
            process is a sidecar, and has no store.
        upstream_token: the sidecar's own credential.
        upstream_token_file: the file that holds it, instead; read again when it changes.
        upstream_ca_file: PEM, whom to trust upstream. Not set: the usual authorities.
        upstream_cert_file: PEM, the sidecar's certificate, for mutual TLS upstream.
        upstream_key_file: PEM, the certificate's private key.
        upstream_insecure_plaintext: go upstream without TLS over a network. Every key
            that is presented here then crosses it in the clear.
        tls_cert_file: PEM, the server's certificate and those that issued it.
        tls_key_file: PEM, the certificate's private key.
        tls_client_ca_file: PEM. Set: clients need a certificate from one of these
            authorities.
        tls_reload_seconds: how often to look whether these files are new.
        insecure_plaintext: serve without TLS where others than this machine can listen
            in. Every credential and every key that is checked then goes over the network
            in the clear.
        unix_socket_mode: "0600", or "0660" for the group, too.
        reflection: whether to serve server reflection: "auto", "on" or "off".
        metrics_listen: where to serve metrics to Prometheus. Not set: nowhere. With
            several workers, the first serves its own there, and each of the others on
            the port after the one before.
        metrics_insecure_plaintext: serve metrics, which have no TLS and ask for no
            credential, where others than this machine can read them.
        max_concurrent_calls: calls under way, of all clients together.
        max_connections: of all clients together.
        max_streams_per_connection: calls that one connection may have open.
        max_message_bytes: the largest request.
        max_metadata_bytes: all metadata of a call together.
        max_connection_idle_seconds: until a connection without calls is closed.
        max_connection_age_seconds: until any connection is closed, for a new one.
        max_connection_age_grace_seconds: what calls on such a connection have left.
        handshake_seconds: until a new connection must have said hello.
        min_ping_interval_seconds: clients may not ping more often.
        cache_keys: how many keys to remember.
        cache_unknown_keys: how many keys that do not exist to remember.
        database_connections: the most connections to the database.
        lease_seconds: L, how long what is granted once lets a process answer from memory.
            The same for every server on a database.
        lease_renewals: how often holders renew in that time.
        clock_drift: ρ, how far clocks may drift, as a part of a second in a second. The same
            for every server on a database; a sidecar allows for what its servers do, too.
        stale_if_error: for how long after its lease has ended this process goes on answering
            checks from memory when it cannot ask anybody: "10m". A key that was revoked in
            that time is accepted. Not set: for no time at all.
        rate_limit_url: the Redis in which servers count together what keys use of their
            rate limits: "redis://…", "rediss://…" or "redis+unix:///path". Not set: this
            server counts by itself.
        rate_limit_on_failure: what becomes of checks of limited keys while that Redis is
            away: "local", "allow" or "deny".
        rate_limit_timeout_seconds: how long a check waits for it.
        usage_flush_seconds: how often to write down how keys were used and which attempts
            failed. What was noted since is lost if the process is killed.
        usage_days: for how many days to keep how often each key was used on each of them.
        drain_seconds: what calls under way have left once the server is told to stop.
        drain_delay_seconds: how long the server says beforehand that it will stop, and
            goes on serving, so that load balancers can look elsewhere.
        log_format: "json", "console", or "auto": for people on a terminal.
        log_level: "debug", "info", "warning" or "error".
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        hide_input_in_errors=True,
        frozen=True,
        extra="forbid",
        validate_default=True,
    )

    listen: str = "127.0.0.1:50051"
    workers: int = Field(default=1, ge=1, le=256)
    data_dir: Path = Path(".keyfence")
    database_url: SecretStr | None = None
    root_key: SecretStr | None = None
    pepper: SecretStr | None = None
    pepper_file: Path | None = None
    session_key: SecretStr | None = None
    session_key_file: Path | None = None
    password_memory_mib: int = Field(default=MEMORY_MIB, ge=8, le=4096)
    password_passes: int = Field(default=PASSES, ge=1, le=100)
    password_workers: int = Field(default=WORKERS, ge=1, le=64)
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    bootstrap_keyspaces: Annotated[tuple[Path, ...], NoDecode] = ()

    upstream: str | None = None
    upstream_token: SecretStr | None = None
    upstream_token_file: Path | None = None
    upstream_ca_file: Path | None = None
    upstream_cert_file: Path | None = None
    upstream_key_file: Path | None = None
    upstream_insecure_plaintext: bool = False

    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_client_ca_file: Path | None = None
    tls_reload_seconds: Seconds = 10
    insecure_plaintext: bool = False
    unix_socket_mode: str = "0600"
    reflection: Reflection = Reflection.AUTO
    metrics_listen: str | None = None
    metrics_insecure_plaintext: bool = False

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
    database_connections: int = Field(default=10, ge=2, le=1_000)
    lease_seconds: float = Field(default=2.0, ge=0.1, le=60)
    lease_renewals: float = Field(default=3.0, ge=1.25, le=20)
    clock_drift: float = Field(default=0.01, ge=0, le=0.2)
    stale_if_error: str = "0s"
    rate_limit_url: SecretStr | None = None
    rate_limit_on_failure: OnFailure = OnFailure.LOCAL
    rate_limit_timeout_seconds: Seconds = 0.25
    usage_flush_seconds: float = Field(default=5, gt=0, le=60)
    usage_days: int = Field(default=400, ge=1, le=36_500)
    drain_seconds: float = Field(default=20, ge=0, le=3_600)
    drain_delay_seconds: float = Field(default=0, ge=0, le=3_600)
    log_format: LogFormat = LogFormat.AUTO
    log_level: LogLevel = LogLevel.INFO

    @field_validator("bootstrap_keyspaces", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("*")
    @classmethod
    def _check_files(cls, value: object, info: ValidationInfo) -> object:
        # It would be said back as a file that is not there, in the log of every start.
        is_file = (info.field_name or "").endswith("_file")
        if is_file and isinstance(value, Path) and _may_be_a_secret(value):
            raise ValueError("must be the path of a file, not what is in the file")
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

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        parse_addresses(value)
        return value

    @field_validator("metrics_listen")
    @classmethod
    def _check_metrics_listen(cls, value: str | None) -> str | None:
        if value is not None and not isinstance(parse_address(value), TcpAddress):
            raise ValueError("must be HOST:PORT, for example 127.0.0.1:9464")
        return value

    @field_validator("stale_if_error")
    @classmethod
    def _check_stale_if_error(cls, value: str) -> str:
        duration = parse_duration(value)
        if duration is None or duration > MAX_STALE:
            raise ValueError("must be a duration of at most a day, such as 30s, 10m or 2h")
        return value

    @field_validator("unix_socket_mode")
    @classmethod
    def _check_unix_socket_mode(cls, value: str) -> str:
        if value not in ("0600", "0660"):
            raise ValueError('must be "0600", or "0660" to let the group in')
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Settings:
        if self.pepper is not None and self.pepper_file is not None:
            raise ValueError("KEYFENCE_PEPPER and KEYFENCE_PEPPER_FILE: set one of them")
        if self.session_key is not None and self.session_key_file is not None:
            raise ValueError("KEYFENCE_SESSION_KEY and KEYFENCE_SESSION_KEY_FILE: set one of them")
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("KEYFENCE_TLS_CERT_FILE and KEYFENCE_TLS_KEY_FILE go together")
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise ValueError("KEYFENCE_TLS_CLIENT_CA_FILE needs KEYFENCE_TLS_CERT_FILE")
        self._check_workers()
        self._check_sidecar()
        self._check_metrics()
        exposed = [
            str(address)
            for address in self.addresses()
            if isinstance(address, TcpAddress) and not address.is_loopback
        ]
        if exposed and self.tls_cert_file is None and not self.insecure_plaintext:
            raise ValueError(
                f"KEYFENCE_LISTEN: {exposed[0]} can be reached from other machines, and without "
                "TLS every key would cross the network in the clear. Set KEYFENCE_TLS_CERT_FILE "
                "and KEYFENCE_TLS_KEY_FILE, or listen on 127.0.0.1 or unix:/PATH. If something "
                "else encrypts, set KEYFENCE_INSECURE_PLAINTEXT=true"
            )
        return self

    def _check_metrics(self) -> None:
        address = self.metrics_address()
        if address is None or address.is_loopback or self.metrics_insecure_plaintext:
            return
        raise ValueError(
            f"KEYFENCE_METRICS_LISTEN: {address} can be reached from other machines, and metrics "
            "tell the keyspaces' names and how much they are used, in the clear and to anybody. "
            "Listen on 127.0.0.1, or set KEYFENCE_METRICS_INSECURE_PLAINTEXT=true where only who "
            "may read them can reach it"
        )

    def _check_sidecar(self) -> None:
        if self.upstream is None:
            return
        given = [name for name in _OF_AUTHORITIES if getattr(self, name)]
        if self.workers > 1:
            given.append("workers")
        if given:
            names = ", ".join(PREFIX + name.upper() for name in given)
            raise ValueError(
                f"{names}: a sidecar has no store, no secrets of its own and one process; unset "
                "it, or unset KEYFENCE_UPSTREAM to run a server"
            )
        if self.upstream_token is not None and self.upstream_token_file is not None:
            raise ValueError(
                "KEYFENCE_UPSTREAM_TOKEN and KEYFENCE_UPSTREAM_TOKEN_FILE: set one of them"
            )

    def _check_workers(self) -> None:
        if self.workers == 1:
            return
        if not self.tcp_addresses():
            raise ValueError(
                f"KEYFENCE_LISTEN: several workers cannot share {self.listen}, since a Unix socket "
                "belongs to one process. Listen on 127.0.0.1:PORT too, or set KEYFENCE_WORKERS=1"
            )
        metrics = self.metrics_address()
        if metrics is not None and metrics.port and metrics.port + self.workers - 1 > MAX_PORT:
            raise ValueError(
                "KEYFENCE_METRICS_LISTEN: each worker takes a port of its own from there on, "
                "and there are not so many left"
            )

    def stale_if_error_seconds(self) -> float:
        """For how long after the end of a lease memory may answer."""
        return (parse_duration(self.stale_if_error) or timedelta()).total_seconds()

    def addresses(self) -> tuple[ListenAddress, ...]:
        """Where to listen."""
        return parse_addresses(self.listen)

    def tcp_addresses(self) -> tuple[TcpAddress, ...]:
        """Where to listen, Unix sockets aside."""
        return tuple(one for one in self.addresses() if isinstance(one, TcpAddress))

    def unix_addresses(self) -> tuple[UnixAddress, ...]:
        """Where to listen, ports aside."""
        return tuple(one for one in self.addresses() if isinstance(one, UnixAddress))

    def metrics_address(self) -> TcpAddress | None:
        """Where to serve metrics; None for nowhere."""
        address = parse_address(self.metrics_listen) if self.metrics_listen is not None else None
        return address if isinstance(address, TcpAddress) else None

    def exposed_in_plaintext(self) -> tuple[ListenAddress, ...]:
        """The addresses where others than this machine could listen in."""
        if self.tls_cert_file is not None:
            return ()
        return tuple(
            address
            for address in self.addresses()
            if isinstance(address, TcpAddress) and not address.is_loopback
        )

    def serves_reflection(self) -> bool:
        """Whether to tell the API to whoever asks."""
        if self.reflection is Reflection.AUTO:
            return not any(
                isinstance(address, TcpAddress) and not address.is_loopback
                for address in self.addresses()
            )
        return self.reflection is Reflection.ON

    def origins(self) -> Origins:
        """Whose word counts on where a call came from."""
        return Origins.trusting(self.trusted_proxies)

    def certificate_files(self) -> CertificateFiles | None:
        """Where the certificate is; None for plaintext."""
        if self.tls_cert_file is None or self.tls_key_file is None:
            return None
        return CertificateFiles(self.tls_cert_file, self.tls_key_file, self.tls_client_ca_file)

    def variables_of_tls(self) -> str:
        """The settings that name the certificate's files, as they are called."""
        names = ("tls_cert_file", "tls_key_file", "tls_client_ca_file")
        return ", ".join(PREFIX + name.upper() for name in names if getattr(self, name))

    def upstream_targets(self) -> list[str]:
        """The servers upstream, in an order of this process's own: so that not every
        sidecar goes to the same one."""
        targets = [one.strip() for one in (self.upstream or "").split(",") if one.strip()]
        random.SystemRandom().shuffle(targets)
        return targets

    def upstream_credential(self) -> str | Path | None:
        """The sidecar's own credential, or the file that holds it."""
        if self.upstream_token is not None:
            return self.upstream_token.get_secret_value()
        return self.upstream_token_file

    def upstream_tls(self) -> Tls | None:
        """How to do TLS upstream; None for the default."""
        if self.upstream_ca_file is None and self.upstream_cert_file is None:
            return None
        return Tls(
            ca_file=self.upstream_ca_file,
            certificate_file=self.upstream_cert_file,
            key_file=self.upstream_key_file,
        )

    def lease_terms(self) -> LeaseTerms:
        """The lengths of time that the fence rests on."""
        return LeaseTerms(
            length=self.lease_seconds, drift=self.clock_drift, renewals=self.lease_renewals
        )

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

    def store_url(self) -> str:
        """Where the store is. May hold a password."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{quote(str(self.data_dir.absolute() / DATABASE_FILE))}"


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Reads the settings from the process's environment.

    Args:
        environment: the variables to look through for misspelt ones; by default those
            of the process. Values are always the process's.

    Raises:
        InvalidSettings: with every problem.
    """
    problems = _name_problems(os.environ if environment is None else environment)
    try:
        settings = Settings()
    except ValidationError as error:
        problems += map(_describe, error.errors(include_input=False, include_url=False))
        raise InvalidSettings(*problems) from None
    if problems:
        raise InvalidSettings(*problems)
    return settings


def _name_problems(environment: Mapping[str, str]) -> list[str]:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    secrets = {
        PREFIX + name
        for name in (
            "ROOT_KEY",
            "PEPPER",
            "PEPPER_FILE",
            "SESSION_KEY",
            "SESSION_KEY_FILE",
            "DATABASE_URL",
            "RATE_LIMIT_URL",
        )
    }
    doors = {PREFIX + name for name in ("TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CLIENT_CA_FILE")}
    problems = []
    for name, value in sorted(environment.items()):
        if not name.upper().startswith(PREFIX) or name in _OF_CLIENTS:
            continue
        if _OF_KUBERNETES.fullmatch(name) or name.upper().startswith(_OF_GATEWAY):
            continue
        if name.upper() not in known:
            rests = [one.removeprefix(PREFIX) for one in known]
            nearest = difflib.get_close_matches(name.upper().removeprefix(PREFIX), rests, n=1)
            hint = f"; did you mean {PREFIX}{nearest[0]}?" if nearest else ""
            problems.append(f"{name}: there is no such setting{hint}")
        elif not value and name.upper() in secrets | doors:
            problems.append(f"{name}: is set, but empty; unset it, or give it a value")
    return problems


def _describe(error: Mapping[str, object]) -> str:
    location = error["loc"]
    message = str(error["msg"]).removeprefix("Value error, ")
    if isinstance(location, tuple) and location:
        return f"{PREFIX}{str(location[0]).upper()}: {message}"
    return message
