"""`keyfence serve`, `migrate` and `health`: running a server, and asking whether it runs."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from keyfence_server.cli.connection import connection_options
from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import failure_from
from keyfence_server.cli.output import QuietOption, note, say

_PATIENCE_SECONDS: Final = 3.0


def health(
    context: typer.Context,
    service: Annotated[
        str, typer.Option(help="One service, by its full name. Without it: the server.")
    ] = "",
    quiet: QuietOption = False,
) -> None:
    """Ask whether the server serves, with grpc.health.v1. It needs no credential.

    Exit code 0: it serves. 1: it does not, or cannot be reached.
    """
    from keyfence import KeyfenceError
    from keyfence_server.cli.health import ask_health

    options = connection_options(context)
    patience = options.timeout_seconds or _PATIENCE_SECONDS
    try:
        status = ask_health(options, service, timeout_seconds=patience)
    except KeyfenceError as error:
        raise failure_from(error, options.target) from None
    if status == "SERVING":
        if not quiet:
            say(f"{options.target}: serving")
        return
    if not quiet:
        note(f"{options.target}: {status.lower().replace('_', ' ')}")
    raise typer.Exit(ExitCode.DENIED)


def root_key() -> None:
    """Print a new operator credential, to give to a server as KEYFENCE_ROOT_KEY.

    A server makes its first credential by itself; this is for whoever keeps secrets
    elsewhere. It does nothing by itself: an empty store takes it at its first start.
    """
    from keyfence_server.application.first_start import new_root_credential

    say(new_root_credential().reveal())
