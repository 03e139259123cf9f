"""`keyfence accounts`: accounts, which own keys, and their sessions.

The command prompts for passwords on a terminal, or reads them from standard input, one on
each line. Passwords are never arguments, because the shell's history and the list of
processes show arguments.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer import Argument, Option

from keyfence_server.cli.completion import keyspace_option
from keyfence_server.cli.connection import connect
from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import Failure
from keyfence_server.cli.key_options import LabelsOption
from keyfence_server.cli.option_groups import given, with_option_groups
from keyfence_server.cli.option_values import read_labels
from keyfence_server.cli.output import (
    ListingOptions,
    Output,
    OutputOption,
    QuietOption,
    failing_if_lost,
    labels_text,
    moment,
    moment_in_short,
    note,
    print_list,
    print_record,
    say,
    say_json,
)
from keyfence_server.cli.standard_input import is_terminal, read_secret

if TYPE_CHECKING:
    from keyfence.results import Account, ChangedAccount, LoggedIn

app = typer.Typer(
    name="accounts", help="Register accounts, log in and out, stop accounts.", no_args_is_help=True
)

_MAX_PASSWORD_SIZE: Final = 4_096
_OWN: Final = "The account's id. Without it: the account of the session in KEYFENCE_TOKEN."

KeyspaceOption = Annotated[str, keyspace_option("The keyspace of the account.")]
EmailArgument = Annotated[str, Argument(metavar="EMAIL", help="The e-mail address.")]
AccountArgument = Annotated[
    str, Argument(metavar="ACCOUNT_ID", help="The account's id, for example usr_01j….")
]
OwnAccountArgument = Annotated[str | None, Argument(metavar="ACCOUNT_ID", help=_OWN)]
NameOption = Annotated[
    str | None, Option("--name", "-n", metavar="TEXT", help="The account's display name.")
]
PlanOption = Annotated[str | None, Option(metavar="NAME", help="The plan. Only operators set it.")]
CommentOption = Annotated[
    str | None, Option("--comment", metavar="TEXT", help="Why, for the audit log.")
]


@app.command()
def register(
    context: typer.Context,
    email: EmailArgument,
    keyspace: KeyspaceOption,
    name: NameOption = None,
    plan: PlanOption = None,
    label: LabelsOption = None,
    output: OutputOption = "table",
) -> None:
    """Register an account. Its password is asked for, or the first line of standard input.

    Where the keyspace's registration is open, no credential is needed.
    """
    password = _read_new_password()
    with connect(context, needs_credential=False) as client:
        done = client.register_account(
            keyspace, email, password, display_name=name, plan=plan, labels=read_labels(label)
        )
    print_record(done.account, _described, output)


@app.command()
def login(
    context: typer.Context,
    email: EmailArgument,
    keyspace: KeyspaceOption,
    output: OutputOption = "table",
    quiet: QuietOption = False,
) -> None:
    """Log in, and print the session's token, which is a credential for KEYFENCE_TOKEN.

    No credential is needed. The password is asked for, or the first line of standard input.
    """
    password = _read_password("Password")
    with connect(context, needs_credential=False) as client:
        done = client.log_in(keyspace, email, password)
    _hand_over(done, output=output, quiet=quiet)


@app.command()
def logout(
    context: typer.Context,
    account_id: OwnAccountArgument = None,
    every: Annotated[
        bool, Option("--all", help="End all sessions of the account. Required for operators.")
    ] = False,
    revoke_keys: Annotated[
        bool, Option("--revoke-keys", help="Also revoke the keys that were made in these sessions.")
    ] = False,
) -> None:
    """End the session in KEYFENCE_TOKEN, or all sessions of an account."""
    with connect(context) as client:
        revision = client.log_out(account_id, all_sessions=every, revoke_keys=revoke_keys)
    note(f"Logged out at revision {revision}.")


@app.command()
def get(
    context: typer.Context, account_id: OwnAccountArgument = None, output: OutputOption = "table"
) -> None:
    """Show an account."""
    with connect(context) as client:
        account = client.get_account(account_id)
    print_record(account, _described, output)


@app.command(name="list")
@with_option_groups
def list_accounts(
    context: typer.Context,
    *,
    keyspace: KeyspaceOption,
    disabled: Annotated[bool, Option("--disabled", help="Only disabled accounts.")] = False,
    email: Annotated[
        str | None, Option(metavar="EMAIL", help="Only the account with this address.")
    ] = None,
    form: ListingOptions,
) -> None:
    """List accounts, oldest first. With --quiet: their ids alone."""
    from keyfence import AccountState

    state = AccountState.DISABLED if disabled else None
    with connect(context) as client:
        listing = client.list_accounts(keyspace, state=state, email=email)
        form.show("accounts", listing, id_of=lambda one: one.account_id, show_table=_print_accounts)


@app.command()
def update(
    context: typer.Context,
    account_id: OwnAccountArgument = None,
    email: Annotated[str | None, Option(metavar="EMAIL", help="The new e-mail address.")] = None,
    name: NameOption = None,
    plan: PlanOption = None,
    label: LabelsOption = None,
    password: Annotated[
        bool, Option("--password", help="Ask for a new password, after the current one.")
    ] = False,
    revoke_keys: Annotated[
        bool,
        Option(
            "--revoke-keys",
            help="With --password: revoke the keys that were made in other sessions.",
        ),
    ] = False,
    output: OutputOption = "table",
) -> None:
    """Change what is given of an account, and nothing else.

    A session must give the current password to change the address or the password: the
    first line of standard input, where that is no terminal. An operator, who names the
    account, gives only the new one.
    """
    labels = read_labels(label) if label else None
    changes = given(email=email, display_name=name, plan=plan, labels=labels)
    if not changes and not password:
        raise typer.BadParameter("say what to change")
    if account_id is None and (password or email is not None):
        changes["current_password"] = _read_password("Current password")
    if password:
        changes["new_password"] = _read_new_password("New password")
        changes["revoke_keys"] = revoke_keys
    elif revoke_keys:
        raise typer.BadParameter("--revoke-keys goes with --password")
    with connect(context) as client:
        done = client.update_account(account_id, **changes)
    print_record(done.account, _described, output)


@app.command()
def disable(
    context: typer.Context,
    account_id: AccountArgument,
    comment: CommentOption = None,
    output: OutputOption = "table",
) -> None:
    """Stop an account: its keys do not work, and its sessions are over."""
    with connect(context) as client:
        _print_done("Disabled", client.disable_account(account_id, comment=comment), output)


@app.command()
def enable(
    context: typer.Context,
    account_id: AccountArgument,
    comment: CommentOption = None,
    output: OutputOption = "table",
) -> None:
    """Let a disabled account and its keys work again."""
    with connect(context) as client:
        _print_done("Enabled", client.enable_account(account_id, comment=comment), output)


def _print_done(what: str, done: ChangedAccount, output: Output) -> None:
    if output == "json":
        say_json(done)
    else:
        say(f"{what} {done.account.account_id} at revision {done.revision}.")


def _read_password(prompt: str) -> str:
    password = read_secret(prompt, _MAX_PASSWORD_SIZE)
    if not password and not is_terminal():
        raise Failure(f"{prompt.lower()}: nothing on standard input", ExitCode.WRONG_INPUT)
    return password


def _read_new_password(prompt: str = "Password") -> str:
    password = _read_password(prompt)
    if is_terminal() and getpass.getpass(f"{prompt} again: ") != password:
        raise Failure("the two passwords differ", ExitCode.WRONG_INPUT)
    return password


def _hand_over(done: LoggedIn, *, output: Output, quiet: bool) -> None:
    """Prints a session's token. If that fails, the token is lost."""
    with failing_if_lost(
        "You are logged in, but the session's token could not be printed and is lost. Log in again."
    ):
        if output == "json":
            say_json(done)
            return
        say(done.session_token)
        if not quiet:
            note(f"A session of {done.account.account_id}, until it is logged out or")
            note(f"{moment(done.session.expire_time)}.")


def _described(account: Account) -> dict[str, str]:
    return {
        "account": account.account_id,
        "e-mail": account.email,
        "name": account.display_name,
        "keyspace": account.keyspace,
        "plan": account.plan,
        "state": account.state.lower(),
        "labels": labels_text(account.labels),
        "registered": moment(account.create_time),
        "changed": moment(account.update_time),
        "disabled": moment(account.disable_time),
        "revision": str(account.revision),
    }


def _print_accounts(accounts: Iterable[Account]) -> None:
    columns: Mapping[str, Callable[[Account], str]] = {
        "ACCOUNT": lambda account: account.account_id,
        "E-MAIL": lambda account: account.email,
        "NAME": lambda account: account.display_name,
        "PLAN": lambda account: account.plan,
        "STATE": lambda account: account.state.lower(),
        "REGISTERED (UTC)": lambda account: moment_in_short(account.create_time),
    }
    print_list(accounts, columns, unbroken=2)
