"""`keyfence keys`: its subcommands, in the order in which the help lists them."""

from __future__ import annotations

import typer

from keyfence_server.cli.key_changes import create, revoke, rotate, update
from keyfence_server.cli.key_imports import import_keys
from keyfence_server.cli.key_reading import export, find, get, list_keys, usage

app = typer.Typer(name="keys", help="Create, list, change and revoke keys.", no_args_is_help=True)
app.command()(create)
app.command(name="import")(import_keys)
app.command()(export)
app.command(name="list")(list_keys)
app.command()(find)
app.command()(get)
app.command()(usage)
app.command()(update)
app.command()(rotate)
app.command()(revoke)
