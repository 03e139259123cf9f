"""Options that several subcommands of `keyfence keys` have."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

import typer

from keyfence_server.cli.completion import complete_scope, keyspace_option
from keyfence_server.cli.option_values import duration, key_id, point_in_time, rate
from keyfence_server.domain.limits import Rate

KeyIdArgument = Annotated[
    str, typer.Argument(metavar="KEY_ID", parser=key_id, help="The key's id, not the key.")
]
KeyspaceOption = Annotated[str, keyspace_option("The keyspace. An account's own key needs none.")]
AccountOption = Annotated[
    str, typer.Option("--account", "-a", metavar="ID", help="The owner of the key.")
]
NameOption = Annotated[
    str | None, typer.Option("--name", "-n", metavar="TEXT", help="The key's display name.")
]
ScopesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        "-s",
        metavar="SCOPE",
        autocompletion=complete_scope,
        help="A scope to grant, or a wildcard such as 'vps:*'. May be repeated.",
    ),
]
ExpiresInOption = Annotated[
    timedelta | None,
    typer.Option(parser=duration, metavar="DURATION", help="From now on: 30s, 15m, 12h or 90d."),
]
ExpiresAtOption = Annotated[
    datetime | None,
    typer.Option(parser=point_in_time, metavar="TIME", help="2030-01-31, or with a time of day."),
]
AddressesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-address",
        metavar="ADDRESS",
        help="An address or network that the key works from. May be repeated.",
    ),
]
LabelsOption = Annotated[
    list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="May be repeated.")
]
RateLimitOption = Annotated[
    Rate | None,
    typer.Option(
        parser=rate,
        metavar="RATE",
        help="How often the key may be used: 60/minute, 100/10s. Without it: as the keyspace says.",
    ),
]
RequestIdOption = Annotated[
    str | None,
    typer.Option(
        metavar="ID", help="Your own id for this request: repeating it makes no second key."
    ),
]
