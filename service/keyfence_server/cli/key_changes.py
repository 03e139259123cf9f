"""`keyfence keys`: creating, changing, rotating and revoking keys."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer import Argument, Option

from keyfence_server.cli.completion import complete_keyspace, keyspace_option
from keyfence_server.cli.connection import connect
from keyfence_server.cli.key_options import (
    AccountOption,
    AddressesOption,
    ExpiresAtOption,
    ExpiresInOption,
    KeyFilter,
    KeyIdArgument,
    KeyspaceOption,
    LabelsOption,
    NameOption,
    RateLimitOption,
    RequestIdOption,
    ScopesOption,
)
from keyfence_server.cli.key_output import hand_over, print_key, warn_if_it_holds_nothing
from keyfence_server.cli.option_groups import given, with_option_groups
from keyfence_server.cli.option_values import duration, expiry, key_id, read_labels
from keyfence_server.cli.output import IfRevisionOption, OutputOption, QuietOption
from keyfence_server.cli.revocations import Revocations
from keyfence_server.cli.standard_input import STANDARD_INPUT, standard_input
from keyfence_server.domain.limits import Rate

if TYPE_CHECKING:
    from keyfence.results import RateLimit


class Clearable(StrEnum):
    """What `--clear` can empty. Typer takes no list of literals."""

    SCOPES = "scopes"
    EXPIRY = "expiry"
    ADDRESSES = "addresses"
    LABELS = "labels"
    RATE_LIMIT = "rate-limit"


def _key_id_or_input(text: str) -> str:
    """A key's id, or "-" for standard input."""
    return text if text == STANDARD_INPUT else key_id(text)


def create(
    context: typer.Context,
    keyspace: KeyspaceOption = "",
    account: AccountOption = "",
    name: NameOption = None,
    scope: ScopesOption = None,
    preset: Annotated[
        str | None,
        Option("--preset", "-p", metavar="NAME", help="A preset, whose scopes are granted too."),
    ] = None,
    key_type: Annotated[
        str | None, Option("--type", "-t", metavar="NAME", help="One of the keyspace's key types.")
    ] = None,
    environment: Annotated[
        str | None,
        Option("--environment", "-e", metavar="NAME", help="One of the keyspace's environments."),
    ] = None,
    expires_in: ExpiresInOption = None,
    expires_at: ExpiresAtOption = None,
    allow_address: AddressesOption = None,
    label: LabelsOption = None,
    parent: Annotated[
        str | None,
        Option(
            parser=key_id,
            metavar="KEY_ID",
            help="Delegate from this key: restricted and revoked with it.",
        ),
    ] = None,
    bind: Annotated[
        list[str] | None,
        Option(
            metavar="KEYSPACE",
            autocompletion=complete_keyspace,
            help="In keyspace system: a keyspace that the credential may act on, or '*'.",
        ),
    ] = None,
    rate_limit: RateLimitOption = None,
    request_id: RequestIdOption = None,
    output: OutputOption = "table",
    quiet: QuietOption = False,
) -> None:
    """Create a key. Its plaintext is printed once, and cannot be shown again.

    With --quiet the plaintext is all that is printed; with --output json it is the field api_key.
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


def update(
    context: typer.Context,
    key_id: KeyIdArgument,
    name: NameOption = None,
    scope: Annotated[
        list[str] | None,
        Option(
            "--scope",
            "-s",
            help="A scope to grant in place of all that were granted. May be repeated.",
        ),
    ] = None,
    enabled: Annotated[
        bool | None, Option("--enable/--disable", help="Enable or disable the key.")
    ] = None,
    expires_in: ExpiresInOption = None,
    expires_at: ExpiresAtOption = None,
    allow_address: AddressesOption = None,
    label: LabelsOption = None,
    rate_limit: RateLimitOption = None,
    clear: Annotated[
        list[Clearable] | None,
        Option(
            metavar="scopes|expiry|addresses|labels|rate-limit",
            help="A field to clear. May be repeated.",
        ),
    ] = None,
    if_revision: IfRevisionOption = 0,
    output: OutputOption = "table",
) -> None:
    """Change a key's record. What is not named stays as it is.

    Lists replace lists: --scope, --allow-address and --label say the whole of what the
    key is to have.
    """
    from keyfence.results import KeyState

    changes = given(
        display_name=name,
        granted_scopes=scope or None,
        state=None if enabled is None else KeyState.ACTIVE if enabled else KeyState.DISABLED,
        expire_time=expiry(expires_in, expires_at),
        allowed_addresses=allow_address or None,
        labels=read_labels(label) if label else None,
        rate_limit=_limit(rate_limit),
    )
    for cleared in clear or ():
        field, nothing = _NOTHING[cleared]
        if field in changes:
            raise typer.BadParameter(f"--clear {cleared} contradicts another option")
        changes[field] = nothing
    if not changes:
        raise typer.BadParameter("say what to change, for example --name or --disable")
    with connect(context) as client:
        changed = client.update_key(key_id, if_revision=if_revision, **changes)
    print_key(changed.key, output)


_NOTHING: Final[dict[Clearable, tuple[str, object]]] = {
    Clearable.SCOPES: ("granted_scopes", ()),
    Clearable.EXPIRY: ("expire_time", None),
    Clearable.ADDRESSES: ("allowed_addresses", ()),
    Clearable.LABELS: ("labels", {}),
    Clearable.RATE_LIMIT: ("rate_limit", None),
}


def rotate(
    context: typer.Context,
    key_id: KeyIdArgument,
    overlap: Annotated[
        timedelta | None,
        Option(
            parser=duration,
            metavar="DURATION",
            help="How long the old key still works. Without it the old key is revoked at once.",
        ),
    ] = None,
    expires_in: ExpiresInOption = None,
    expires_at: ExpiresAtOption = None,
    request_id: RequestIdOption = None,
    output: OutputOption = "table",
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


@with_option_groups
def revoke(
    context: typer.Context,
    *,
    key_ids: Annotated[
        list[str] | None,
        Argument(
            metavar="[KEY_ID...|-]",
            parser=_key_id_or_input,
            help='The ids, not the keys. "-": ids or keys are read from standard input, one a '
            "line.",
        ),
    ] = None,
    keyspace: Annotated[
        str, keyspace_option("Revoke the keys of this keyspace that pass every filter.")
    ] = "",
    filters: KeyFilter,
    yes: Annotated[bool, Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    comment: Annotated[str, Option(metavar="TEXT", help="Why, for the audit log.")] = "",
    output: OutputOption = "table",
) -> None:
    """Revoke keys, and all that were delegated from them. This is final.

    When the command has returned, no server, sidecar or cache accepts them. Name keys by
    their ids, by lines on standard input, or by --keyspace with filters as in `keys list`. By
    filters, the command shows how many keys pass all of them, and asks for confirmation.
    """
    wanted = filters.arguments()
    ids = key_ids or []
    has_filter = not filters.is_empty()
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
            revocations.revoke_found(keyspace, wanted, is_confirmed=yes)
        elif lines is not None:
            revocations.revoke_lines(lines)
        else:
            for one in ids:
                revocations.revoke(one)


def _limit(rate: Rate | None) -> RateLimit | None:
    from keyfence.results import RateLimit

    return RateLimit(rate.requests, rate.window) if rate is not None else None
