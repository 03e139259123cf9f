"""`keyfence keys`: listing keys, and showing their records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

import typer
from typer import Argument, Option

from keyfence_server.cli.connection import connect
from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import Failure
from keyfence_server.cli.key_options import (
    KeyFilter,
    KeyIdArgument,
    KeyspaceOption,
    OfAccountOption,
)
from keyfence_server.cli.key_output import print_key, print_keys
from keyfence_server.cli.option_groups import with_option_groups
from keyfence_server.cli.option_values import until
from keyfence_server.cli.output import (
    ListingOptions,
    OutputOption,
    note,
    print_table,
    say_json,
    say_json_line,
)
from keyfence_server.cli.standard_input import STANDARD_INPUT, read_api_key

_MAX_PAGE: Final = 1000


def export(
    context: typer.Context, keyspace: KeyspaceOption = "", account: OfAccountOption = ""
) -> None:
    """Print every key's record as JSON Lines, oldest first. Neither keys nor hashes are in it."""
    with connect(context) as client:
        for key in client.list_keys(keyspace=keyspace, account_id=account, page_size=_MAX_PAGE):
            say_json_line(key)


@with_option_groups
def list_keys(
    context: typer.Context,
    *,
    keyspace: KeyspaceOption = "",
    filters: KeyFilter,
    state: Annotated[
        Literal["active", "disabled", "revoked"] | None,
        Option(metavar="active|disabled|revoked", help="Only keys in this state."),
    ] = None,
    expiring_within: Annotated[
        datetime | None,
        Option(
            parser=until,
            metavar="DURATION",
            help="Only keys that have not expired and will within this time: 30d.",
        ),
    ] = None,
    form: ListingOptions,
) -> None:
    """List keys, oldest first. With --quiet: their ids alone.

    A key is listed if it passes every filter. With --scope, --unused-since, --never-used or
    --expiring-within, revoked keys are left out, unless --state asks for them.

    A table has at most 100 keys, and says if there are more. --quiet and --output json list
    all keys, unless --limit says otherwise.
    """
    from keyfence.results import KeyState

    most = form.most()
    wanted = filters.arguments()
    with connect(context) as client:
        found = client.list_keys(
            keyspace=keyspace,
            state=KeyState[state.upper()] if state else None,
            expiring_before_time=expiring_within,
            page_size=min(most + 1, _MAX_PAGE) if most else _MAX_PAGE,
            **wanted,
        )
        form.show("keys", found, id_of=lambda key: key.key_id, show_table=print_keys)


def find(
    context: typer.Context,
    source: Annotated[str, Argument(metavar="-", help='"-": the key is read from standard input.')],
    output: OutputOption = "table",
) -> None:
    """Show the record of a key that you have in plaintext. This does not count as a use.

    The key is read from standard input, since arguments can be read by every user of the
    machine. Your credential needs the scopes `replication:sync` and `keys:read`.
    """
    if source != STANDARD_INPUT:
        raise typer.BadParameter('write "-" and give the key on standard input')
    api_key = read_api_key()
    if not api_key:
        raise Failure("standard input holds no key", ExitCode.WRONG_INPUT)
    with connect(context) as client:
        found = client.find_key(api_key)
        if found is None:
            raise Failure("There is no such key.", ExitCode.NOT_FOUND)
        key = client.get_key(found.key_id)
    print_key(key, output)


def get(context: typer.Context, key_id: KeyIdArgument, output: OutputOption = "table") -> None:
    """Show a key's record."""
    with connect(context) as client:
        key = client.get_key(key_id)
    print_key(key, output)


def usage(
    context: typer.Context,
    key_id: KeyIdArgument,
    days: Annotated[int, Option(min=1, max=400, help="For how many days back.")] = 30,
    output: OutputOption = "table",
) -> None:
    """Show on which days a key was used, and how often."""
    first_day = datetime.now(UTC).date() - timedelta(days=days - 1)
    with connect(context) as client:
        used = client.get_key_usage(key_id, first_day=first_day)
    if output == "json":
        say_json({"days": used})
    elif not used:
        note("Not used on any of these days.")
    else:
        print_table(("DAY", "USES"), ((day.day.isoformat(), str(day.use_count)) for day in used))
