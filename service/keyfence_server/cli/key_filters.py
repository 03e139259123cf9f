"""Options that choose keys: those of `keys list` and `keys revoke`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from keyfence_server.cli.completion import complete_scope
from keyfence_server.cli.key_ids import key_id
from keyfence_server.cli.times import since, until

if TYPE_CHECKING:
    from keyfence import Client, Listing
    from keyfence.results import Key, KeyState

AccountFilter = Annotated[
    str, typer.Option("--account", "-a", metavar="ID", help="Only the keys of this account.")
]
ParentFilter = Annotated[
    str | None,
    typer.Option(parser=key_id, metavar="KEY_ID", help="Only keys delegated from this one."),
]
TypeFilter = Annotated[
    str, typer.Option("--type", "-t", metavar="NAME", help="Only keys of this type.")
]
EnvironmentFilter = Annotated[
    str, typer.Option("--environment", "-e", metavar="NAME", help="Only keys of this environment.")
]
PrefixFilter = Annotated[
    str,
    typer.Option(metavar="TEXT", help="Only keys with this display prefix, such as kf_live_a1B2."),
]
LabelFilter = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="Only keys with this label. May be repeated."),
]
ScopeFilter = Annotated[
    str,
    typer.Option(
        "--scope",
        "-s",
        metavar="SCOPE",
        autocompletion=complete_scope,
        help="Only keys that hold this scope, by whatever grant, wildcard or preset.",
    ),
]
UnusedSinceFilter = Annotated[
    datetime | None,
    typer.Option(
        parser=since,
        metavar="DURATION|TIME",
        help="Only keys that are older than this and not used since: 90d, or a date.",
    ),
]
NeverUsedFilter = Annotated[
    bool, typer.Option("--never-used", help="Only keys that were never used.")
]
ExpiringWithinFilter = Annotated[
    datetime | None,
    typer.Option(
        parser=until,
        metavar="DURATION",
        help="Only keys that have not expired and will within this time: 30d.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFilter:
    """Which keys of a keyspace: those that pass every filter. Each is None, empty or False if it
    was not given."""

    keyspace: str
    account: str = ""
    state: KeyState | None = None
    parent: str | None = None
    key_type: str = ""
    environment: str = ""
    prefix: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    scope: str = ""
    unused_since: datetime | None = None
    never_used: bool = False
    expiring_within: datetime | None = None

    def is_whole_keyspace(self) -> bool:
        """Whether no filter narrows the keyspace."""
        return self == KeyFilter(keyspace=self.keyspace)

    def keys(self, client: Client, *, page_size: int) -> Listing[Key]:
        """The keys, oldest first. Raises what the client raises."""
        return client.list_keys(
            keyspace=self.keyspace,
            account_id=self.account,
            state=self.state,
            parent_key_id=self.parent,
            key_type=self.key_type,
            environment=self.environment,
            # Tables show a prefix with this behind it.
            display_prefix=self.prefix.removesuffix("…"),
            labels=self.labels,
            scope=self.scope,
            unused_since_time=self.unused_since,
            never_used=self.never_used,
            expiring_before_time=self.expiring_within,
            page_size=page_size,
        )
