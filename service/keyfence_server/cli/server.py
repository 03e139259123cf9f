"""`keyfence serve`, `migrate` and `health`: running a server, and asking whether it runs."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import Failure, failing, failure_from
from keyfence_server.cli.loading import loading
from keyfence_server.cli.offline import store_failures
from keyfence_server.cli.output import QuietOption, note, say
from keyfence_server.cli.targets import ConnectionOptions, why_unreachable

if TYPE_CHECKING:
    from keyfence_server.config import Settings

_PATIENCE_SECONDS: Final = 3.0


def _setting(name: str, metavar: str, text: str) -> Any:
    """An option that is the setting of the same name, and says so in its help."""
    return typer.Option(envvar=f"KEYFENCE_{name}", metavar=metavar, help=text)


ListenOption = Annotated[
    str | None, _setting("LISTEN", "ADDRESS", "Where to listen: HOST:PORT or unix:/PATH.")
]
MetricsListenOption = Annotated[
    str | None, _setting("METRICS_LISTEN", "HOST:PORT", "Where to serve metrics.")
]
StaleIfErrorOption = Annotated[
    str | None,
    _setting(
        "STALE_IF_ERROR",
        "DURATION",
        "Without a lease, and with no server to ask, answer from memory for so long. "
        "A key that is revoked meanwhile is accepted.",
    ),
]
LogFormatOption = Annotated[
    str | None, _setting("LOG_FORMAT", "auto|json|console", "The format of log lines.")
]
LogLevelOption = Annotated[
    str | None,
    _setting("LOG_LEVEL", "debug|info|warning|error", "The least severe level that is logged."),
]


def serve(
    listen: ListenOption = None,
    workers: Annotated[
        str | None, _setting("WORKERS", "N", "How many processes serve on one port of this host.")
    ] = None,
    data_dir: Annotated[
        str | None, _setting("DATA_DIR", "PATH", "Where the embedded database and secrets are.")
    ] = None,
    bootstrap_keyspaces: Annotated[
        str | None,
        _setting("BOOTSTRAP_KEYSPACES", "FILES", "Keyspace files to apply at the first start."),
    ] = None,
    tls_cert_file: Annotated[
        str | None, _setting("TLS_CERT_FILE", "PATH", "PEM, the certificate and its issuers.")
    ] = None,
    tls_key_file: Annotated[
        str | None, _setting("TLS_KEY_FILE", "PATH", "PEM, the certificate's private key.")
    ] = None,
    tls_client_ca_file: Annotated[
        str | None,
        _setting("TLS_CLIENT_CA_FILE", "PATH", "PEM, the issuers of client certificates."),
    ] = None,
    metrics_listen: MetricsListenOption = None,
    reflection: Annotated[
        str | None, _setting("REFLECTION", "auto|on|off", "Whether to serve server reflection.")
    ] = None,
    stale_if_error: StaleIfErrorOption = None,
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
    insecure_plaintext: Annotated[
        str | None,
        _setting(
            "INSECURE_PLAINTEXT",
            "true|false",
            "Allow addresses that other machines can reach without TLS.",
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Read the settings and files and ask the database, and serve nothing. Exit "
            "with 5 if a server could not start.",
        ),
    ] = False,
) -> None:
    """Run a server, until it is told to stop. With --check: only look for what is wrong.

    Each option is a setting, and wins over the environment's variable of that name. The
    other settings, and all that hold a secret, are variables alone: the arguments of a
    process can be read by every user of its machine.
    """
    options = {name: value for name, value in locals().items() if name != "check"}
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


def sidecar(
    upstream: Annotated[
        str | None, _setting("UPSTREAM", "TARGETS", "The servers upstream, separated by commas.")
    ] = None,
    listen: ListenOption = None,
    upstream_token_file: Annotated[
        str | None,
        _setting("UPSTREAM_TOKEN_FILE", "PATH", "The file with the sidecar's own credential."),
    ] = None,
    upstream_ca_file: Annotated[
        str | None,
        _setting("UPSTREAM_CA_FILE", "PATH", "PEM, the issuers of the servers' certificates."),
    ] = None,
    metrics_listen: MetricsListenOption = None,
    stale_if_error: StaleIfErrorOption = None,
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Run a sidecar, which answers checks on an application's host for servers elsewhere.

    A sidecar keeps facts in memory, under a lease from upstream, and nothing on disk. Its
    credential needs the scopes `keys:check` and `replication:sync`, and a binding to the
    keyspaces of the checks. Each option is a setting, as for `keyfence serve`.
    """
    settings = load_settings_with(**locals())
    if not settings.upstream_targets():
        raise Failure(
            "KEYFENCE_UPSTREAM or --upstream: name the servers upstream, for example "
            "keyfence-1:50051,keyfence-2:50051",
            ExitCode.WRONG_INPUT,
        )
    _run(settings)


def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit with 5 if a migration is due.")
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
        str, typer.Option(help="One service, by its full name. Without it: the server.")
    ] = "",
    quiet: QuietOption = False,
) -> None:
    """Ask whether the server serves, with grpc.health.v1. It needs no credential.

    Exit code 0: the server serves. 1: it does not serve, or cannot be reached.
    """
    from keyfence import KeyfenceError
    from keyfence_server.cli.health import ask_health

    options = context.ensure_object(ConnectionOptions)
    patience = options.timeout_seconds or _PATIENCE_SECONDS
    try:
        status = ask_health(options, service, timeout_seconds=patience)
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


def root_key() -> None:
    """Print a new operator credential, to give to a server as KEYFENCE_ROOT_KEY.

    By default a server makes its first credential itself. Use this command to keep the
    credential in a secret store. An empty store accepts the credential at its first start.
    """
    from keyfence_server.application.first_start import new_root_credential

    say(new_root_credential().reveal())
