"""`keyfence operator`: what an operator does on the database itself, without a server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import failing
from keyfence_server.cli.offline import DatabaseUrlOption, open_for_recovery
from keyfence_server.cli.output import OutputOption, QuietOption, note, say, say_json
from keyfence_server.cli.server import load_settings_with

if TYPE_CHECKING:
    from keyfence_server.config import Settings
    from keyfence_server.domain.keys import Key
    from keyfence_server.domain.secrets import Plaintext

app = typer.Typer(
    name="operator", no_args_is_help=True, help="Recover access without a credential."
)


@app.callback()
def operator() -> None:
    """Recover access, on the machine of the database, without a server and a credential."""


@app.command()
def recover(
    database_url: DatabaseUrlOption = None,
    name: Annotated[
        str, typer.Option("--name", "-n", metavar="TEXT", help="The credential's display name.")
    ] = "Recovered",
    output: OutputOption = "table",
    quiet: QuietOption = False,
) -> None:
    """Make a new operator credential with every permission, and print it once.

    For when the root credential is lost or revoked, or every operator is locked out. It works
    on the database itself and needs the pepper too: KEYFENCE_PEPPER_FILE, KEYFENCE_PEPPER, or
    the file in KEYFENCE_DATA_DIR. On SQLite, stop the server first; on PostgreSQL, servers may
    run. The audit log records it as `operator.recover`.
    """
    key, plaintext = asyncio.run(_recover(load_settings_with(database_url=database_url), name))
    if output == "json":
        say_json({"key_id": str(key.key_id), "api_key": plaintext.reveal()})
        return
    say(plaintext.reveal())
    if not quiet:
        note(
            f"This is the operator credential {key.key_id}. It is shown only once.\n"
            "The other credentials are unchanged: `keyfence keys list -k system` lists them. "
            "Revoke those that are lost."
        )


async def _recover(settings: Settings, name: str) -> tuple[Key, Plaintext]:
    from keyfence_server.application.key_inputs import read_display_name
    from keyfence_server.domain.errors import InvalidInput

    with failing(ExitCode.WRONG_INPUT, InvalidInput):
        display_name = read_display_name("--name", name)
    async with open_for_recovery(settings) as operators:
        return await operators.recover(display_name)
