"""The command line: what subcommands there are, and how each of them ends.

Importing this module must stay cheap, since the shell does it at every completion:
what only one subcommand needs is imported when that subcommand runs.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import typer
from typer.exceptions import TyperException
from typer.main import get_command

from keyfence_server.adapters.keyspace_files.source_text import InvalidKeyspaceFile, printable
from keyfence_server.cli import (
    accounts,
    audit,
    backups,
    checks,
    gateway,
    keys,
    keyspaces,
    operator,
    replicas,
    scopes,
    server,
)
from keyfence_server.cli.exits import EXIT_CODES_HELP, ExitCode
from keyfence_server.cli.failures import Failure
from keyfence_server.cli.option_groups import with_option_groups
from keyfence_server.cli.option_values import is_text
from keyfence_server.cli.output import note, spell_out_what_cannot_be_shown, stdout_to_nowhere
from keyfence_server.cli.targets import ConnectionOptions
from keyfence_server.domain.plurals import counted
from keyfence_server.domain.redaction import hide_keys

PROGRAM: Final = "keyfence"
_MOST_FAULTS: Final = 100
_OF_PYDANTIC: Final = "Value error, "
"""How the message of a value begins that is none of those to choose from."""

app = typer.Typer(
    name=PROGRAM,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    # A traceback with local variables could show a key.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)
for _command in (
    *(server.serve, server.sidecar, server.migrate, server.health, backups.backup, backups.restore),
    *(gateway.gateway, server.root_key, checks.check, checks.whoami, replicas.replicas),
):
    app.command()(_command)
for _group in (keyspaces, keys, scopes, accounts, audit, operator):
    app.add_typer(_group.app)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"{PROGRAM} {version('keyfence-server')}")
        raise typer.Exit


@app.callback(epilog=EXIT_CODES_HELP)
@with_option_groups
def keyfence(
    context: typer.Context,
    options: ConnectionOptions,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Keyfence answers two questions about an API key: whose is it, and may it do this?

    Start a server with `keyfence serve`. The other commands ask a server, as any client
    does, with the credential in `KEYFENCE_TOKEN`.
    """
    context.obj = options


@functools.cache
def whole_command() -> Callable[..., Any]:
    """The command with all subcommands. It is read from their functions once in a process."""
    return get_command(app)


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns how it ends. Expected failures print no traceback."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = _asks_for_json(given)
    if any(not is_text(argument) for argument in given):
        return _complain(Failure("the command line is not UTF-8", ExitCode.WRONG_INPUT), as_json)
    if sys.stdout is None:
        # A plaintext with nowhere to go would be lost for good.
        return _complain(Failure("standard output is closed", ExitCode.OUTPUT_LOST), as_json)
    spell_out_what_cannot_be_shown()
    try:
        code = whole_command()(arguments, prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        return _complain_about_usage(error, as_json)
    except InvalidKeyspaceFile as error:
        return _complain_about_file(error, as_json)
    except Failure as error:
        return _complain(error, as_json)
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except OSError as error:
        # Files that cannot be read are failures by now, so this is standard output: an
        # answer that could not be read must not count as one.
        stdout_to_nowhere()
        if isinstance(error, BrokenPipeError):
            # Its reader has seen enough, as in `keyfence keys list | head`.
            return ExitCode.OUTPUT_LOST
        lost = f"the answer could not be written: {error.strerror}"
        return _complain(Failure(lost, ExitCode.OUTPUT_LOST), as_json)
    except SystemExit as error:
        return _end_of_library(error)
    except Exception as error:  # noqa: BLE001 - the last stop before a traceback
        return _complain_about_fault(error, as_json)
    return code if isinstance(code, int) else ExitCode.OK


def _asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether the command line asks for JSON, even if the rest of it cannot be read."""
    values = itertools.pairwise(arguments)
    return any(one in {"-ojson", "--output=json"} for one in arguments) or any(
        option in {"-o", "--output"} and value == "json" for option, value in values
    )


def _complain(failure: Failure, as_json: bool) -> int:
    """Writes the failure to standard error, and returns its exit code."""
    if as_json:
        error = {"message": failure.message, "exit_code": int(failure.code), **failure.details}
        note(json.dumps({"error": error}, indent=2))
    else:
        note(f"{PROGRAM}: {failure.message}")
    return failure.code


def _complain_about_usage(error: TyperException, as_json: bool) -> int:
    """Says what is wrong with the command line, without an argument that may be a key."""
    message = printable(hide_keys(error.format_message())).replace(_OF_PYDANTIC, "")
    context = getattr(error, "ctx", None)
    if not message:
        # No arguments at all: the help was shown.
        return ExitCode.WRONG_INPUT
    if context is not None and not as_json:
        note(context.get_usage())
        message = f"{message}\nTry `{context.command_path} --help`."
    return _complain(Failure(message, ExitCode.WRONG_INPUT), as_json)


def _complain_about_file(error: InvalidKeyspaceFile, as_json: bool) -> int:
    count = len(error.faults)
    summary = f"{counted(count, 'problem')}; nothing was applied"
    shown = [fault.render() for fault in error.faults[:_MOST_FAULTS]]
    if as_json:
        failure = Failure(summary, ExitCode.WRONG_INPUT, {"problems": shown})
        return _complain(failure, as_json)
    for fault in shown:
        note(f"{fault}\n")
    if count > _MOST_FAULTS:
        note(f"… and {count - _MOST_FAULTS} more.\n")
    return _complain(Failure(summary, ExitCode.WRONG_INPUT), as_json)


def _complain_about_fault(error: Exception, as_json: bool) -> int:
    """A fault of ours. Its text may quote a secret, so only its kind and place are shown."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" at {trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace else ""
    if os.environ.get("KEYFENCE_TRACEBACK"):
        sys.excepthook(type(error), error, error.__traceback__)
    message = (
        f"this is a bug in Keyfence: {type(error).__name__}{where}. "
        "KEYFENCE_TRACEBACK=1 shows the traceback, which may hold secrets."
    )
    return _complain(Failure(message, ExitCode.FAULT), as_json)


def _end_of_library(error: SystemExit) -> int:
    """Typer ends by itself when the shell asks for completion, and when a pipe breaks."""
    if any(name.startswith("_KEYFENCE") and name.endswith("COMPLETE") for name in os.environ):
        return error.code if isinstance(error.code, int) else ExitCode.OK
    return ExitCode.OUTPUT_LOST
