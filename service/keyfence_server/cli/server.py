"""`keyfence serve`, `migrate` and `health`: running a server, and asking whether it runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer import Option

from keyfence_server.cli import loading
from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import Failure, failing, failure_from
from keyfence_server.cli.offline import store_failures
from keyfence_server.cli.option_groups import show_options
from keyfence_server.cli.output import QuietOption, note, say
from keyfence_server.cli.targets import ConnectionOptions, connection_to, why_unreachable

if TYPE_CHECKING:
    from keyfence_server.config import Settings

_PATIENCE_SECONDS: Final = 3.0


_STALE_IF_ERROR: Final = (
    "Without a lease, and with no server to ask, answer from memory for so long. A key that is "
    "revoked meanwhile is accepted."
)
_SETTINGS: Final[Mapping[str, tuple[str, str]]] = {
    "listen": ("ADDRESS", "Where to listen: HOST:PORT or unix:/PATH."),
    "workers": ("N", "How many processes serve on one port of this host."),
    "data_dir": ("PATH", "Where the embedded database and secrets are."),
    "bootstrap_keyspaces": ("FILES", "Keyspace files to apply at the first start."),
    "tls_cert_file": ("PATH", "PEM, the certificate and its issuers."),
    "tls_key_file": ("PATH", "PEM, the certificate's private key."),
    "tls_client_ca_file": ("PATH", "PEM, the issuers of client certificates."),
    "metrics_listen": ("HOST:PORT", "Where to serve metrics."),
    "reflection": ("auto|on|off", "Whether to serve server reflection."),
    "stale_if_error": ("DURATION", _STALE_IF_ERROR),
    "log_format": ("auto|json|console", "The format of log lines."),
    "log_level": ("debug|info|warning|error", "The least severe level that is logged."),
    "insecure_plaintext": (
        "true|false",
        "Allow addresses that other machines can reach without TLS.",
    ),
    "upstream": ("TARGETS", "The servers upstream, separated by commas."),
    "upstream_token_file": ("PATH", "The file with the sidecar's own credential."),
    "upstream_ca_file": ("PATH", "PEM, the issuers of the servers' certificates."),
}
"""The settings that are options too, with their placeholder and help."""


def _with_settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds options that are the settings of these names, and say so in their help. The command
    takes them as keywords, beside its own options."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        options = []
        for name in names:
            metavar, text = _SETTINGS[name]
            option = Option(envvar=f"KEYFENCE_{name.upper()}", metavar=metavar, help=text)
            kind = Annotated[str | None, option]
            options.append(Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=kind))
        own = signature(command, eval_str=True).parameters.values()
        show_options(command, [*options, *(o for o in own if o.kind is not Parameter.VAR_KEYWORD)])
        return command

    return add


@_with_settings(
    *("listen", "workers", "data_dir", "bootstrap_keyspaces"),
    *("tls_cert_file", "tls_key_file", "tls_client_ca_file", "metrics_listen", "reflection"),
    *("stale_if_error", "log_format", "log_level", "insecure_plaintext"),
)
def serve(
    *,
    check: Annotated[
        bool,
        Option(
            "--check",
            help="Read the settings and files and ask the database, and serve nothing. Exit "
            "with 5 if a server could not start.",
        ),
    ] = False,
    **options: str | None,
) -> None:
    """Run a server, until it is told to stop. With --check: only look for what is wrong.

    Each option is a setting, and wins over the environment's variable of that name. The
    other settings, and all that hold a secret, are variables alone: the arguments of a
    process can be read by every user of its machine.
    """
    settings = load_settings_with(**options)
    if settings.upstream is not None:
        raise Failure(
            "KEYFENCE_UPSTREAM is for `keyfence sidecar`; unset it to serve from a store",
            ExitCode.WRONG_INPUT,
        )
    if check:
        _check(settings)
        return
    _run(settings)


def _check(settings: Settings) -> None:
    from keyfence_server.composition.preflight import check_start
    from keyfence_server.provisioning import CannotStart

    with failing(ExitCode.CONFLICT, CannotStart, about="cannot start"):
        asyncio.run(check_start(settings))
    say("ready to serve")


def _run(settings: Settings) -> None:
    with loading():
        from keyfence_server.provisioning import CannotStart
        from keyfence_server.workers import run

    with failing(ExitCode.CONFLICT, CannotStart, about="cannot start"):
        run(settings)


@_with_settings(
    *("upstream", "listen", "upstream_token_file", "upstream_ca_file"),
    *("metrics_listen", "stale_if_error", "log_format", "log_level"),
)
def sidecar(**options: str | None) -> None:
    """Run a sidecar, which answers checks on an application's host for servers elsewhere.

    A sidecar keeps facts in memory, under a lease from upstream, and nothing on disk. Its
    credential needs the scopes `keys:check` and `replication:sync`, and a binding to the
    keyspaces of the checks. Each option is a setting, as for `keyfence serve`.
    """
    settings = load_settings_with(**options)
    if not settings.upstream_targets():
        raise Failure(
            "KEYFENCE_UPSTREAM or --upstream: name the servers upstream, for example "
            "keyfence-1:50051,keyfence-2:50051",
            ExitCode.WRONG_INPUT,
        )
    _run(settings)


def migrate(
    check: Annotated[
        bool, Option("--check", help="Change nothing; exit with 5 if a migration is due.")
    ] = False,
) -> None:
    """Migrate the database's tables to this version.

    The database is that of KEYFENCE_DATABASE_URL, or the file in KEYFENCE_DATA_DIR. A
    server does this for its embedded database by itself, and never for a PostgreSQL one,
    which other servers may be using. It is safe to run twice, and beside running servers.
    """
    from keyfence_server.adapters.sql import InvalidDatabaseUrl, require_current, upgrade
    from keyfence_server.provisioning import describe_store

    settings = load_settings_with()
    url = settings.store_url()
    with failing(ExitCode.WRONG_INPUT, InvalidDatabaseUrl, about="KEYFENCE_DATABASE_URL"):
        place = describe_store(settings)
    with store_failures(place):
        if check:
            asyncio.run(require_current(url))
            say("The database is up to date.")
            return
        before, after = asyncio.run(upgrade(url))
    if before == after:
        say(f"The database is up to date, at schema {after}.")
    else:
        say(f"The database went from {before or 'nothing'} to schema {after}.")


def load_settings_with(**options: str | None) -> Settings:
    """The settings, in which options of the command line win over variables."""
    # Settings are read from the environment, and this process ends with the command.
    for name, value in options.items():
        if value is not None:
            os.environ[f"KEYFENCE_{name.upper()}"] = value
    with loading():
        from keyfence_server.config import InvalidSettings, load_settings

    with failing(ExitCode.WRONG_INPUT, InvalidSettings):
        return load_settings()


def health(
    context: typer.Context,
    service: Annotated[
        str, Option(help="One service, by its full name. Without it: the server.")
    ] = "",
    quiet: QuietOption = False,
) -> None:
    """Ask whether the server serves, with grpc.health.v1. It needs no credential.

    Exit code 0: the server serves. 1: it does not serve, or cannot be reached.
    """
    from keyfence import KeyfenceError

    options = context.ensure_object(ConnectionOptions)
    patience = options.timeout_seconds or _PATIENCE_SECONDS
    try:
        status = _status(options, service, timeout_seconds=patience)
        is_explained = status == "UNREACHABLE" and not quiet
        why = f": {why_unreachable(options)}" if is_explained else ""
    except KeyfenceError as error:
        raise failure_from(error, options) from None
    if status == "SERVING":
        if not quiet:
            say(f"{options.target}: serving")
        return
    if not quiet:
        note(f"{options.target}: {status.lower().replace('_', ' ')}{why}")
    raise typer.Exit(ExitCode.DENIED)


def _status(options: ConnectionOptions, service: str, *, timeout_seconds: float) -> str:
    """The status in the words of `grpc.health.v1`, such as "SERVING"; "UNREACHABLE" for none.
    Raises `keyfence.ConfigurationError` if the options make no connection."""
    import grpc
    from grpc_health.v1 import health_pb2

    request = health_pb2.HealthCheckRequest(service=service)
    # One rule for TLS: that of the client. There is no credential in it.
    with connection_to(options).channel() as channel:
        try:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            status = check(request, timeout=timeout_seconds).status
        except grpc.RpcError as error:
            # A server that says it knows no such service has been reached all the same.
            unknown = error.code() is grpc.StatusCode.NOT_FOUND
            return "SERVICE_UNKNOWN" if unknown else "UNREACHABLE"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(status))


def root_key() -> None:
    """Print a new operator credential, to give to a server as KEYFENCE_ROOT_KEY.

    By default a server makes its first credential itself. Use this command to keep the
    credential in a secret store. An empty store accepts the credential at its first start.
    """
    from keyfence_server.application.first_start import new_root_credential

    say(new_root_credential().reveal())
