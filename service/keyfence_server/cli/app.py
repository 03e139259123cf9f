"""The command line: what subcommands there are, and how each of them ends.

Importing this module must stay cheap, since the shell does it at every completion:
what only one subcommand needs is imported when that subcommand runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from typer.exceptions import TyperException

from keyfence_server.adapters.keyspace_files import InvalidKeyspaceFile
from keyfence_server.adapters.keyspace_files.source_text import printable
from keyfence_server.cli import (
    accounts,
    audit,
    checks,
    gateway,
    keys,
    keyspaces,
    replicas,
    scopes,
    server,
)
from keyfence_server.cli.exits import EXIT_CODES_HELP, ExitCode
from keyfence_server.cli.failures import Failure
from keyfence_server.cli.output import note, spell_out_what_cannot_be_shown, stdout_to_nowhere
from keyfence_server.cli.targets import DEFAULT_TARGET, ConnectionOptions
from keyfence_server.domain.plurals import counted
from keyfence_server.domain.redaction import hide_keys

PROGRAM: Final = "keyfence"
_MOST_FAULTS: Final = 100

app = typer.Typer(
    name=PROGRAM,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    # A traceback with local variables could show a key.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)
app.command()(server.serve)
app.command()(server.sidecar)
app.command()(server.migrate)
app.command()(server.health)
app.command()(gateway.gateway)
app.command()(server.root_key)
app.add_typer(keyspaces.app, name="keyspaces")
app.add_typer(keys.app, name="keys")
app.command()(checks.check)
app.command()(checks.whoami)
app.add_typer(scopes.app, name="scopes")
app.add_typer(accounts.app, name="accounts")
app.add_typer(audit.app, name="audit")
app.command()(replicas.replicas)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"{PROGRAM} {version('keyfence-server')}")
        raise typer.Exit


_CONNECTION: Final = "Connection (give these before the subcommand)"


@app.callback(epilog=EXIT_CODES_HELP)
def keyfence(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Option(
            envvar="KEYFENCE_TARGET",
            metavar="HOST:PORT",
            rich_help_panel=_CONNECTION,
            help="The server, as gRPC names it: host:port, unix:/path, dns:///name:port.",
        ),
    ] = DEFAULT_TARGET,
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="KEYFENCE_TOKEN_FILE",
            rich_help_panel=_CONNECTION,
            help="The file that holds your credential. Without it: the variable KEYFENCE_TOKEN.",
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="SECONDS", rich_help_panel=_CONNECTION, help="For a call."),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            envvar="KEYFENCE_CA_FILE",
            rich_help_panel=_CONNECTION,
            help="PEM certificates to trust in place of the usual ones.",
        ),
    ] = None,
    certificate_file: Annotated[
        Path | None,
        typer.Option(rich_help_panel=_CONNECTION, help="Your PEM certificate, for mutual TLS."),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(rich_help_panel=_CONNECTION, help="The certificate's private key."),
    ] = None,
    server_name: Annotated[
        str | None,
        typer.Option(rich_help_panel=_CONNECTION, help="The name in the server's certificate."),
    ] = None,
    plaintext: Annotated[
        bool,
        typer.Option(
            "--insecure-plaintext",
            rich_help_panel=_CONNECTION,
            help="Do without TLS over a network, which can then read the credential and all keys.",
        ),
    ] = False,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Keyfence answers two questions about an API key: whose is it, and may it do this?

    Start a server with `keyfence serve`. The other commands ask a server, as any client
    does, with the credential in `KEYFENCE_TOKEN`.
    """
    context.obj = ConnectionOptions(
        target=target,
        token_file=token_file,
        timeout_seconds=timeout,
        ca_file=ca_file,
        certificate_file=certificate_file,
        key_file=key_file,
        server_name=server_name,
        plaintext=plaintext,
    )


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns how it ends. Expected failures print no traceback."""
    if any(not _is_text(argument) for argument in arguments or sys.argv[1:]):
        return _complain("the command line is not UTF-8", ExitCode.WRONG_INPUT)
    if sys.stdout is None:
        # A plaintext with nowhere to go would be lost for good.
        return _complain("standard output is closed", ExitCode.OUTPUT_LOST)
    spell_out_what_cannot_be_shown()
    try:
        code = app(arguments, prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        return _complain_about_usage(error)
    except InvalidKeyspaceFile as error:
        return _complain_about_file(error)
    except Failure as error:
        return _complain(error.message, error.code)
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except OSError as error:
        # Files that cannot be read are failures by now, so this is standard output: an
        # answer that nobody could read must not count as one.
        stdout_to_nowhere()
        if isinstance(error, BrokenPipeError):
            # Its reader has seen enough, as in `keyfence keys list | head`.
            return ExitCode.OUTPUT_LOST
        return _complain(f"the answer could not be written: {error.strerror}", ExitCode.OUTPUT_LOST)
    except SystemExit as error:
        return _end_of_library(error)
    except Exception as error:  # noqa: BLE001 - the last stop before a traceback
        return _complain_about_fault(error)
    return code if isinstance(code, int) else ExitCode.OK


def _is_text(argument: str) -> bool:
    """Whether the argument is UTF-8: other bytes reach Python as halves of characters."""
    return not any("\ud800" <= character <= "\udfff" for character in argument)


def _complain(message: str, code: ExitCode) -> int:
    note(f"{PROGRAM}: {message}")
    return code


def _complain_about_usage(error: TyperException) -> int:
    """Says what is wrong with the command line, without an argument that may be a key."""
    message = hide_keys(error.format_message())
    context = getattr(error, "ctx", None)
    if not message:
        # No arguments at all: the help was shown.
        return ExitCode.WRONG_INPUT
    if context is None:
        return _complain(printable(message), ExitCode.WRONG_INPUT)
    note(context.get_usage())
    return _complain(
        f"{printable(message)}\nTry `{context.command_path} --help`.", ExitCode.WRONG_INPUT
    )


def _complain_about_file(error: InvalidKeyspaceFile) -> int:
    count = len(error.faults)
    for fault in error.faults[:_MOST_FAULTS]:
        note(f"{fault.render()}\n")
    if count > _MOST_FAULTS:
        note(f"… and {count - _MOST_FAULTS} more.\n")
    return _complain(f"{counted(count, 'problem')}; nothing was applied", ExitCode.WRONG_INPUT)


def _complain_about_fault(error: Exception) -> int:
    """A fault of ours. Its text may quote a secret, so only its kind and place are shown."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" at {trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace else ""
    if os.environ.get("KEYFENCE_TRACEBACK"):
        sys.excepthook(type(error), error, error.__traceback__)
    return _complain(
        f"this is a fault of Keyfence: {type(error).__name__}{where}. "
        "KEYFENCE_TRACEBACK=1 shows the traceback, which may hold secrets.",
        ExitCode.FAULT,
    )


def _end_of_library(error: SystemExit) -> int:
    """Typer ends by itself when the shell asks for completion, and when a pipe breaks."""
    if any(name.startswith("_KEYFENCE") and name.endswith("COMPLETE") for name in os.environ):
        return error.code if isinstance(error.code, int) else ExitCode.OK
    return ExitCode.OUTPUT_LOST
