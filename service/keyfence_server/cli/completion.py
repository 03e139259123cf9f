"""Completions of the shell that ask the server.

A completion waits a second at most, prints nothing, and completes nothing if it fails. It sends the
credential only where the command itself would send it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import fields
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import typer

from keyfence_server.cli.connection import open_client
from keyfence_server.cli.targets import DEFAULT_TARGET, ConnectionOptions

if TYPE_CHECKING:
    from keyfence import Client

_PATIENCE_SECONDS: Final = 1.0
_MOST: Final = 200


def complete_keyspace(context: typer.Context, incomplete: str) -> list[str]:
    """Names of keyspaces that start like this."""
    return _ask(context, incomplete, lambda client: (one.name for one in client.list_keyspaces()))


def keyspace_option(text: str) -> Any:
    """The option `--keyspace`, with its help."""
    return typer.Option(
        "--keyspace", "-k", metavar="NAME", autocompletion=complete_keyspace, help=text
    )


def complete_scope(context: typer.Context, incomplete: str) -> list[str]:
    """Scopes of the keyspace that stands on the command line already."""
    name = context.params.get("keyspace")
    if not name:
        return []
    return _ask(context, incomplete, lambda client: _scopes(client, name))


def _scopes(client: Client, keyspace: str) -> Iterable[str]:
    from keyfence.holder.memory import registered_scopes

    return sorted(registered_scopes(client.get_keyspace(keyspace).declaration))


def _ask(
    context: typer.Context, incomplete: str, names: Callable[[Client], Iterable[str]]
) -> list[str]:
    # While the shell completes, the root callback has not run: its parameters are there,
    # its options object is not.
    root = context.find_root().params
    given = {one.name: root[one.name] for one in fields(ConnectionOptions) if root.get(one.name)}
    token = given.get("token_file") or os.environ.get("KEYFENCE_TOKEN", "").strip()
    if not token:
        return []
    target = given.get("target") or os.environ.get("KEYFENCE_TARGET") or DEFAULT_TARGET
    given |= {"target": target, "timeout_seconds": _PATIENCE_SECONDS}
    options = ConnectionOptions(**given)
    try:
        with open_client(options, token=token, diagnoses=False) as client:
            fitting = (name for name in names(client) if name.startswith(incomplete))
            return list(islice(fitting, _MOST))
    except Exception:  # noqa: BLE001 - a person is in the middle of typing
        return []
