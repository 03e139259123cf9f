"""Options that choose keys: those of `keys list` and `keys revoke`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import typer

from keyfence_server.cli.completion import complete_scope
from keyfence_server.cli.option_values import key_id, read_labels, since


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFilter:
    """Which keys of a keyspace: those that pass every filter that was given."""

    account: Annotated[
        str, typer.Option("--account", "-a", metavar="ID", help="Only the keys of this account.")
    ] = ""
    parent: Annotated[
        str | None,
        typer.Option(parser=key_id, metavar="KEY_ID", help="Only keys delegated from this one."),
    ] = None
    key_type: Annotated[
        str, typer.Option("--type", "-t", metavar="NAME", help="Only keys of this type.")
    ] = ""
    environment: Annotated[
        str,
        typer.Option("--environment", "-e", metavar="NAME", help="Only keys of this environment."),
    ] = ""
    prefix: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="Only keys with this display prefix, such as kf_live_a1B2."
        ),
    ] = ""
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Only keys with this label. May be repeated."),
    ] = None
    scope: Annotated[
        str,
        typer.Option(
            "--scope",
            "-s",
            metavar="SCOPE",
            autocompletion=complete_scope,
            help="Only keys that hold this scope, by whatever grant, wildcard or preset.",
        ),
    ] = ""
    unused_since: Annotated[
        datetime | None,
        typer.Option(
            parser=since,
            metavar="DURATION|TIME",
            help="Only keys that are older than this and not used since: 90d, or a date.",
        ),
    ] = None
    never_used: Annotated[
        bool, typer.Option("--never-used", help="Only keys that were never used.")
    ] = False

    def is_empty(self) -> bool:
        """Whether no filter was given."""
        return self == KeyFilter()

    def arguments(self) -> dict[str, Any]:
        """What the client's `list_keys` takes for the filters. Raises `typer.BadParameter`."""
        return {
            "account_id": self.account,
            "parent_key_id": self.parent,
            "key_type": self.key_type,
            "environment": self.environment,
            # Tables show a prefix with this behind it.
            "display_prefix": self.prefix.removesuffix("…"),
            "labels": read_labels(self.label),
            "scope": self.scope,
            "unused_since_time": self.unused_since,
            "never_used": self.never_used,
        }
