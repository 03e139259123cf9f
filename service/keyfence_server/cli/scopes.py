"""`keyfence scopes`: the implications between a keyspace's scopes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from keyfence_server.cli.completion import complete_scope, keyspace_option
from keyfence_server.cli.connection import connect
from keyfence_server.cli.output import (
    OutputOption,
    arrow,
    print_fields,
    print_rest,
    print_styled,
    say_json,
)
from keyfence_server.domain.plurals import counted

if TYPE_CHECKING:
    from keyfence.results import ScopePath

app = typer.Typer(name="scopes", help="Show which scopes imply each other.", no_args_is_help=True)


@app.callback()
def scopes() -> None:
    """Show which scopes imply each other."""


@app.command()
def explain(
    context: typer.Context,
    scope: Annotated[
        str, typer.Argument(autocompletion=complete_scope, help="A registered scope.")
    ],
    keyspace: Annotated[str, keyspace_option("The scope's keyspace.")],
    output: OutputOption = "table",
) -> None:
    """Show which scopes a scope implies, which imply it, and how many keys have it."""
    with connect(context) as client:
        explained = client.explain_scope(keyspace, scope)
    if output == "json":
        say_json(explained)
        return
    print_styled((explained.scope, "bold"), (f"  {explained.description}", ""))
    _print_paths("Implies", explained.implies, explained.implies_count)
    _print_paths("Implied by", explained.implied_by, explained.implied_by_count)
    print_fields(
        {
            "in presets": ", ".join(explained.presets),
            "kept from": ", ".join(explained.capped_key_types),
            "keys with it": counted(explained.active_key_count, "active key"),
        }
    )


def _print_paths(heading: str, paths: Iterable[ScopePath], count: int) -> None:
    shown = [f" {arrow()} ".join(path.path) for path in paths]
    if shown:
        print_styled((heading, "dim"))
    for path in shown:
        print_styled((f"  {path}", ""))
    print_rest(count - len(shown))
