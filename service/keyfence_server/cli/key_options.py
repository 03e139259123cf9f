"""Options that several subcommands of `keyfence keys` have, and those that choose keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from typer import Argument, Option

from keyfence_server.cli.completion import complete_scope, keyspace_option
from keyfence_server.cli.option_values import (
    duration,
    key_id,
    point_in_time,
    rate,
    read_labels,
    since,
)
from keyfence_server.domain.limits import Rate

KeyIdArgument = Annotated[
    str, Argument(metavar="KEY_ID", parser=key_id, help="The key's id, not the key.")
]
KeyspaceOption = Annotated[str, keyspace_option("The keyspace. An account's own key needs none.")]
AccountOption = Annotated[
    str, Option("--account", "-a", metavar="ID", help="The owner of the key.")
]
OfAccountOption = Annotated[
    str, Option("--account", "-a", metavar="ID", help="Only the keys of this account.")
]
NameOption = Annotated[
    str | None, Option("--name", "-n", metavar="TEXT", help="The key's display name.")
]
ScopesOption = Annotated[
    list[str] | None,
    Option(
        "--scope",
        "-s",
        metavar="SCOPE",
        autocompletion=complete_scope,
        help="A scope to grant, or a wildcard such as 'vps:*'. May be repeated.",
    ),
]
ExpiresInOption = Annotated[
    timedelta | None,
    Option(parser=duration, metavar="DURATION", help="From now on: 30s, 15m, 12h or 90d."),
]
ExpiresAtOption = Annotated[
    datetime | None,
    Option(parser=point_in_time, metavar="TIME", help="2030-01-31, or with a time of day."),
]
AddressesOption = Annotated[
    list[str] | None,
    Option(
        "--allow-address",
        metavar="ADDRESS",
        help="An address or network that the key works from. May be repeated.",
    ),
]
LabelsOption = Annotated[
    list[str] | None, Option("--label", metavar="NAME=VALUE", help="May be repeated.")
]
RateLimitOption = Annotated[
    Rate | None,
    Option(
        parser=rate,
        metavar="RATE",
        help="How often the key may be used: 60/minute, 100/10s. Without it: as the keyspace says.",
    ),
]
RequestIdOption = Annotated[
    str | None,
    Option(metavar="ID", help="Your own id for this request: repeating it makes no second key."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFilter:
    """Which keys of a keyspace: those that pass every filter that was given."""

    account: OfAccountOption = ""
    parent: Annotated[
        str | None,
        Option(parser=key_id, metavar="KEY_ID", help="Only keys delegated from this one."),
    ] = None
    key_type: Annotated[
        str, Option("--type", "-t", metavar="NAME", help="Only keys of this type.")
    ] = ""
    environment: Annotated[
        str, Option("--environment", "-e", metavar="NAME", help="Only keys of this environment.")
    ] = ""
    prefix: Annotated[
        str,
        Option(metavar="TEXT", help="Only keys with this display prefix, such as kf_live_a1B2."),
    ] = ""
    label: Annotated[
        list[str] | None,
        Option(metavar="NAME=VALUE", help="Only keys with this label. May be repeated."),
    ] = None
    scope: Annotated[
        str,
        Option(
            "--scope",
            "-s",
            metavar="SCOPE",
            autocompletion=complete_scope,
            help="Only keys that hold this scope, by whatever grant, wildcard or preset.",
        ),
    ] = ""
    unused_since: Annotated[
        datetime | None,
        Option(
            parser=since,
            metavar="DURATION|TIME",
            help="Only keys that are older than this and not used since: 90d, or a date.",
        ),
    ] = None
    never_used: Annotated[bool, Option("--never-used", help="Only keys that were never used.")] = (
        False
    )

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
