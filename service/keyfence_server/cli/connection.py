"""How the command reaches a server: as any client does, through the SDK.

The credential comes from the environment or a file and never from an argument, which
every user of the machine could read in the list of processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import Failure, failure_from
from keyfence_server.cli.targets import ConnectionOptions, tls_of

if TYPE_CHECKING:
    import typer

    from keyfence import Client

TOKEN_VARIABLE: Final = "KEYFENCE_TOKEN"


@contextmanager
def connect(context: typer.Context, *, needs_credential: bool = True) -> Iterator[Client]:
    """A client for the target of the command line. Errors of its calls become failures."""
    options = context.ensure_object(ConnectionOptions)
    token = _credential(options) if needs_credential else options.token_file
    with open_client(options, token=token) as client:
        yield client


@contextmanager
def open_client(
    options: ConnectionOptions, *, token: str | Path | None, diagnoses: bool = True
) -> Iterator[Client]:
    """A client with these options and this credential. Raises `Failure` for what fails. `diagnoses`
    says whether to find out why no server can be reached, which takes a moment."""
    # The SDK costs a tenth of a second, which help and completion need not pay.
    from keyfence import Client, KeyfenceError
    from keyfence.connection import CALL_TIMEOUT_SECONDS

    # A person waits longer for a check than a service does.
    timeout_seconds = options.timeout_seconds or CALL_TIMEOUT_SECONDS
    try:
        with Client(
            options.target,
            token=token,
            tls=tls_of(options),
            insecure_plaintext=options.plaintext,
            timeout_seconds=timeout_seconds,
            check_timeout_seconds=timeout_seconds,
        ) as client:
            yield client
    except KeyfenceError as error:
        raise failure_from(error, options, diagnoses=diagnoses) from None


def _credential(options: ConnectionOptions) -> str | Path:
    if options.token_file is not None:
        return options.token_file
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if token:
        return token
    message = (
        f"No credential: put one into {TOKEN_VARIABLE}, or name the file that holds it with "
        "--token-file."
    )
    root_key = Path(os.environ.get("KEYFENCE_DATA_DIR", ".keyfence")) / "root.key"
    if root_key.exists():
        message += (
            f'\nThe server here left one:\n\n    export {TOKEN_VARIABLE}="$(cat {root_key})"\n'
        )
    raise Failure(message, ExitCode.NOT_PERMITTED)
