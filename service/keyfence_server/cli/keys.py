"""`keyfence keys`: creating, listing, changing and revoking keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Final

import typer

from keyfence_server.cli.completion import complete_keyspace, complete_scope, keyspace_option
from keyfence_server.cli.connection import connect
from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import Failure
from keyfence_server.cli.import_files import Form, Layout, read_lines
from keyfence_server.cli.import_sources import Source
from keyfence_server.cli.imports import Progress, import_lines
from keyfence_server.cli.key_filters import (
    AccountFilter,
    EnvironmentFilter,
    ExpiringWithinFilter,
    KeyFilter,
    LabelFilter,
    NeverUsedFilter,
    ParentFilter,
    PrefixFilter,
    ScopeFilter,
    TypeFilter,
    UnusedSinceFilter,
)
from keyfence_server.cli.key_ids import key_id
from keyfence_server.cli.key_output import (
    hand_over,
    print_key,
    print_keys,
    warn_if_it_holds_nothing,
)
from keyfence_server.cli.output import (
    LAST_REVISION,
    LimitOption,
    Output,
    OutputOption,
    QuietOption,
    note,
    print_table,
    say,
    say_json,
    say_json_line,
    show_listing,
    shown_at_most,
)
from keyfence_server.cli.pairs import read_labels, read_pairs
from keyfence_server.cli.revocations import Revocations
from keyfence_server.cli.standard_input import STANDARD_INPUT, read_api_key, standard_input
from keyfence_server.cli.times import duration, expiry, point_in_time, rate
from keyfence_server.domain.limits import Rate
from keyfence_server.domain.plurals import counted

if TYPE_CHECKING:
    from keyfence.results import RateLimit

app = typer.Typer(help="Create, list, change and revoke keys.", no_args_is_help=True)

_MAX_PAGE: Final = 1000


def _key_id_or_input(text: str) -> str:
    """A key's id, or "-" for standard input."""
    return text if text == STANDARD_INPUT else key_id(text)


KeyIdArgument = Annotated[
    str, typer.Argument(metavar="KEY_ID", parser=key_id, help="The key's id, not the key.")
]
KeyspaceOption = Annotated[
    str,
    keyspace_option("The keyspace. An account's own key needs none."),
]
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
    list[str] | None,
    typer.Option("--label", metavar="NAME=VALUE", help="May be repeated."),
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


class StateFilter(StrEnum):
    """What `--state` can ask for."""

    ACTIVE = "active"
    DISABLED = "disabled"
    REVOKED = "revoked"


class Clearable(StrEnum):
    """What `--clear` can empty."""

    SCOPES = "scopes"
    EXPIRY = "expiry"
    ADDRESSES = "addresses"
    LABELS = "labels"
    RATE_LIMIT = "rate-limit"


@app.command()
def create(
    context: typer.Context,
    keyspace: KeyspaceOption = "",
    account: AccountOption = "",
    name: NameOption = None,
    scope: ScopesOption = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset", "-p", metavar="NAME", help="A preset, whose scopes are granted too."
        ),
    ] = None,
    key_type: Annotated[
        str | None,
        typer.Option("--type", "-t", metavar="NAME", help="One of the keyspace's key types."),
    ] = None,
    environment: Annotated[
        str | None,
        typer.Option(
            "--environment", "-e", metavar="NAME", help="One of the keyspace's environments."
        ),
    ] = None,
    expires_in: ExpiresInOption = None,
    expires_at: ExpiresAtOption = None,
    allow_address: AddressesOption = None,
    label: LabelsOption = None,
    parent: Annotated[
        str | None,
        typer.Option(
            parser=key_id,
            metavar="KEY_ID",
            help="Delegate from this key: restricted and revoked with it.",
        ),
    ] = None,
    bind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEYSPACE",
            autocompletion=complete_keyspace,
            help="In keyspace system: a keyspace that the credential may act on, or '*'.",
        ),
    ] = None,
    rate_limit: RateLimitOption = None,
    request_id: RequestIdOption = None,
    output: OutputOption = Output.TABLE,
    quiet: QuietOption = False,
) -> None:
    """Create a key. Its plaintext is printed once, and cannot be shown again.

    With --quiet the plaintext is all that is printed; with --output json it is the
    field api_key.
    """
    with connect(context) as client:
        created = client.create_key(
            keyspace=keyspace or None,
            account_id=account or None,
            display_name=name,
            scopes=scope or (),
            preset=preset,
            key_type=key_type,
            environment=environment,
            expire_time=expiry(expires_in, expires_at),
            allowed_addresses=allow_address or (),
            labels=read_labels(label),
            parent_key_id=parent,
            bound_keyspaces=bind or (),
            rate_limit=_limit(rate_limit),
            request_id=request_id,
        )
    hand_over(created, output=output, quiet=quiet)
    warn_if_it_holds_nothing(created.key)


@app.command(name="import")
def import_keys(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help='JSON Lines or CSV; "-" is standard input.')
    ],
    keyspace: KeyspaceOption,
    form: Annotated[
        Form | None,
        typer.Option("--format", metavar="jsonl|csv", help="Without it: by the file's name."),
    ] = None,
    source: Annotated[Source, typer.Option("--from", help="Whose file it is.")] = Source.KEYFENCE,
    names: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="COLUMN=FIELD", help="What a name in the file means."),
    ] = None,
    absent: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="For lines without this field."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check every line, and import nothing.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Import keys that another program has made, by plaintext or hash.

    Each line has a key: its account_id; one of api_key, sha256, sha512, hmac_sha256 (in
    hexadecimal digits or base64), password_hash and hashed_key, the last two with prefix; and any
    of scopes, preset, display_name, key_type, environment, expire_time, allowed_addresses, labels
    and rate_limit. Lines that are refused are reported with their
    numbers. A key that is there already is left as it is, so after an interruption the same
    command goes on.
    """
    layout = Layout(
        form or (Form.CSV if file.endswith(".csv") else Form.JSONL),
        source,
        read_pairs("--map", names),
        read_pairs("--set", absent),
    )
    shown = Progress()

    def refuse(number: int, why: str) -> None:
        shown.clear()
        note(f"line {number}: {why}")

    with _opened(file) as opened, connect(context) as client:
        sums = import_lines(
            client,
            keyspace,
            read_lines(opened, layout),
            dry_run=dry_run,
            refuse=refuse,
            progress=shown.show,
        )
    shown.clear()
    if output is Output.JSON:
        say_json({"imported": sums.imported, "present": sums.present, "refused": sums.refused})
    else:
        verb = "would be imported" if dry_run else "imported"
        say(
            f"{counted(sums.imported, 'key')} {verb}, {sums.present} there already, "
            f"{sums.refused} refused."
        )
    if sums.refused:
        raise Failure(
            f"{counted(sums.refused, 'line')} refused; correct them and repeat the command",
            ExitCode.WRONG_INPUT,
        )


@contextmanager
def _opened(file: str) -> Iterator[IO[bytes]]:
    if file == STANDARD_INPUT:
        yield standard_input()
        return
    try:
        opened = Path(file).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}", ExitCode.WRONG_INPUT) from None
    with opened:
        yield opened


@app.command()
def export(
    context: typer.Context,
    keyspace: KeyspaceOption = "",
    account: Annotated[
        str, typer.Option("--account", "-a", metavar="ID", help="Only the keys of this account.")
    ] = "",
) -> None:
    """Print every key's record as JSON Lines, oldest first. Neither keys nor hashes are in it."""
    with connect(context) as client:
        for key in client.list_keys(keyspace=keyspace, account_id=account, page_size=_MAX_PAGE):
            say_json_line(key)


@app.command(name="list")
def list_keys(
    context: typer.Context,
    keyspace: KeyspaceOption = "",
    account: AccountFilter = "",
    state: Annotated[
        StateFilter | None,
        typer.Option(metavar="active|disabled|revoked", help="Only keys in this state."),
    ] = None,
    parent: ParentFilter = None,
    key_type: TypeFilter = "",
    environment: EnvironmentFilter = "",
    prefix: PrefixFilter = "",
    label: LabelFilter = None,
    scope: ScopeFilter = "",
    unused_since: UnusedSinceFilter = None,
    never_used: NeverUsedFilter = False,
    expiring_within: ExpiringWithinFilter = None,
    limit: LimitOption = None,
    output: OutputOption = Output.TABLE,
    quiet: QuietOption = False,
) -> None:
    """List keys, oldest first. With --quiet: their ids alone.

    A key is listed if it passes every filter. With --scope, --unused-since, --never-used or
    --expiring-within, revoked keys are left out, unless --state asks for them.

    A table has at most 100 keys, and says if there are more. --quiet and --output json list
    all keys, unless --limit says otherwise.
    """
    from keyfence.results import KeyState

    most = shown_at_most(limit, output=output, quiet=quiet)
    wanted = KeyFilter(
        keyspace=keyspace,
        account=account,
        state=KeyState[state.name] if state else None,
        parent=parent,
        key_type=key_type,
        environment=environment,
        prefix=prefix,
        labels=read_labels(label),
        scope=scope,
        unused_since=unused_since,
        never_used=never_used,
        expiring_within=expiring_within,
    )
    with connect(context) as client:
        found = wanted.keys(client, page_size=min(most + 1, _MAX_PAGE) if most else _MAX_PAGE)
        show_listing(
            "keys",
            found,
            most,
            output=output,
            quiet=quiet,
            id_of=lambda key: key.key_id,
            show_table=print_keys,
        )


@app.command()
def find(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="-", help='"-": the key is read from standard input.')
    ],
    output: OutputOption = Output.TABLE,
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


@app.command()
def get(context: typer.Context, key_id: KeyIdArgument, output: OutputOption = Output.TABLE) -> None:
    """Show a key's record."""
    with connect(context) as client:
        key = client.get_key(key_id)
    print_key(key, output)


@app.command()
def usage(
    context: typer.Context,
    key_id: KeyIdArgument,
    days: Annotated[int, typer.Option(min=1, max=400, help="For how many days back.")] = 30,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show on which days a key was used, and how often."""
    first_day = datetime.now(UTC).date() - timedelta(days=days - 1)
    with connect(context) as client:
        used = client.get_key_usage(key_id, first_day=first_day)
    if output is Output.JSON:
        say_json({"days": used})
    elif not used:
        note("Not used on any of these days.")
    else:
        print_table(("DAY", "USES"), ((day.day.isoformat(), str(day.use_count)) for day in used))


@app.command()
def update(
    context: typer.Context,
    key_id: KeyIdArgument,
    name: NameOption = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            "-s",
            help="A scope to grant in place of all that were granted. May be repeated.",
        ),
    ] = None,
    enabled: Annotated[
        bool | None,
        typer.Option("--enable/--disable", help="Enable or disable the key."),
    ] = None,
    expires_in: ExpiresInOption = None,
    expires_at: ExpiresAtOption = None,
    allow_address: AddressesOption = None,
    label: LabelsOption = None,
    rate_limit: RateLimitOption = None,
    clear: Annotated[
        list[Clearable] | None,
        typer.Option(
            metavar="scopes|expiry|addresses|labels|rate-limit",
            help="A field to clear. May be repeated.",
        ),
    ] = None,
    if_revision: Annotated[
        int,
        typer.Option(
            min=0, max=LAST_REVISION, help="Only if the key's revision is still this one."
        ),
    ] = 0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change a key's record. What is not named stays as it is.

    Lists replace lists: --scope, --allow-address and --label say the whole of what the
    key is to have.
    """
    from keyfence.results import KeyState

    changes: dict[str, object] = {
        field: value
        for field, value in {
            "display_name": name,
            "granted_scopes": scope or None,
            "state": None if enabled is None else KeyState.ACTIVE if enabled else KeyState.DISABLED,
            "expire_time": expiry(expires_in, expires_at),
            "allowed_addresses": allow_address or None,
            "labels": read_labels(label) if label else None,
            "rate_limit": _limit(rate_limit),
        }.items()
        if value is not None
    }
    for cleared in clear or ():
        field, nothing = _NOTHING[cleared]
        if field in changes:
            raise typer.BadParameter(f"--clear {cleared} contradicts another option")
        changes[field] = nothing
    if not changes:
        raise typer.BadParameter("say what to change, for example --name or --disable")
    with connect(context) as client:
        changed = client.update_key(key_id, if_revision=if_revision, **changes)  # type: ignore[arg-type]
    print_key(changed.key, output)


_NOTHING: Final[dict[Clearable, tuple[str, object]]] = {
    Clearable.SCOPES: ("granted_scopes", ()),
    Clearable.EXPIRY: ("expire_time", None),
    Clearable.ADDRESSES: ("allowed_addresses", ()),
    Clearable.LABELS: ("labels", {}),
    Clearable.RATE_LIMIT: ("rate_limit", None),
}


@app.command()
def rotate(
    context: typer.Context,
    key_id: KeyIdArgument,
    overlap: Annotated[
        timedelta | None,
        typer.Option(
            parser=duration,
            metavar="DURATION",
            help="How long the old key still works. Without it the old key is revoked at once.",
        ),
    ] = None,
    expires_in: ExpiresInOption = None,
    expires_at: ExpiresAtOption = None,
    request_id: RequestIdOption = None,
    output: OutputOption = Output.TABLE,
    quiet: QuietOption = False,
) -> None:
    """Replace a key by a successor with the same grants.

    The successor's plaintext is printed this once, as by `keys create`.
    """
    with connect(context) as client:
        rotated = client.rotate_key(
            key_id,
            overlap=overlap,
            expire_time=expiry(expires_in, expires_at),
            request_id=request_id,
        )
    hand_over(rotated, output=output, quiet=quiet)


@app.command()
def revoke(
    context: typer.Context,
    key_ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY_ID...|-]",
            parser=_key_id_or_input,
            help='The ids, not the keys. "-": ids or keys are read from standard input, one a '
            "line.",
        ),
    ] = None,
    keyspace: Annotated[
        str,
        keyspace_option("Revoke the keys of this keyspace that pass every filter."),
    ] = "",
    account: AccountFilter = "",
    parent: ParentFilter = None,
    key_type: TypeFilter = "",
    environment: EnvironmentFilter = "",
    prefix: PrefixFilter = "",
    label: LabelFilter = None,
    scope: ScopeFilter = "",
    unused_since: UnusedSinceFilter = None,
    never_used: NeverUsedFilter = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    comment: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the audit log.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Revoke keys, and all that were delegated from them. This is final.

    When the command has returned, no server, sidecar or cache accepts them. Name keys by
    their ids, by lines on standard input, or by --keyspace with filters as in `keys list`. By
    filters, the command shows how many keys pass all of them, and asks for confirmation.
    """
    wanted = KeyFilter(
        keyspace=keyspace,
        account=account,
        parent=parent,
        key_type=key_type,
        environment=environment,
        prefix=prefix,
        labels=read_labels(label),
        scope=scope,
        unused_since=unused_since,
        never_used=never_used,
    )
    ids = key_ids or []
    has_filter = not wanted.is_whole_keyspace()
    if bool(ids) == has_filter or bool(keyspace) != has_filter:
        raise typer.BadParameter(
            'name keys by their ids, or "-" for standard input, or --keyspace with a filter such '
            "as --account or --prefix"
        )
    if STANDARD_INPUT in ids and len(ids) > 1:
        raise typer.BadParameter('"-" goes alone')
    lines = standard_input() if ids == [STANDARD_INPUT] else None
    with connect(context) as client, Revocations(client, comment, output) as revocations:
        if has_filter:
            revocations.revoke_found(wanted, is_confirmed=yes)
        elif lines is not None:
            revocations.revoke_lines(lines)
        else:
            for one in ids:
                revocations.revoke(one)


def _limit(rate: Rate | None) -> RateLimit | None:
    from keyfence.results import RateLimit

    return RateLimit(rate.requests, rate.window) if rate is not None else None
