"""`keyfence check` and `keyfence whoami`: a service's questions, asked on the command line."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer import Argument, Option

from keyfence_server.cli.completion import complete_scope, keyspace_option
from keyfence_server.cli.connection import connect
from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.key_output import scopes_text
from keyfence_server.cli.output import (
    LAST_REVISION,
    OutputOption,
    QuietOption,
    arrow,
    labels_text,
    mark,
    moment,
    print_fields,
    print_record,
    print_styled,
    say_json,
)
from keyfence_server.cli.standard_input import STANDARD_INPUT, read_api_key
from keyfence_server.domain.limits import Rate

if TYPE_CHECKING:
    from keyfence.results import (
        Authentication,
        CheckResult,
        Principal,
        RateLimitStatus,
        ScopeExplanation,
    )

_MEANINGS: Final = {
    "CREDENTIAL_MISSING": "no key was given",
    "CREDENTIAL_MALFORMED": "this is not the form of a key",
    "KEY_UNKNOWN": "it has the form of a key, but there is no such key",
    "KEYSPACE_MISMATCH": "the key belongs to another keyspace",
    "KEY_REVOKED": "the key was revoked",
    "KEY_EXPIRED": "the key has expired",
    "KEY_DISABLED": "the key is disabled",
    "ACCOUNT_DISABLED": "the account is disabled",
    "ADDRESS_NOT_ALLOWED": "the key does not work from this address",
    "RATE_LIMITED": "the key has used up its rate limit for now",
}


def check(
    context: typer.Context,
    api_key: Annotated[
        str,
        Argument(
            metavar="API_KEY",
            help="The key itself, or '-' to read it from standard input, where neither the "
            "shell's history nor the list of processes shows it.",
        ),
    ],
    keyspace: Annotated[str, keyspace_option("The keyspace that the key must belong to.")] = "",
    scope: Annotated[
        list[str] | None,
        Option(
            "--scope",
            "-s",
            metavar="SCOPE",
            autocompletion=complete_scope,
            help="A scope that the key must have. May be repeated. Without it: is the key valid?",
        ),
    ] = None,
    explain: Annotated[
        bool, Option("--explain", help="Show the grants that led to the answer.")
    ] = False,
    address: Annotated[
        str, Option(help="The address that the key is used from.", metavar="ADDRESS")
    ] = "",
    at_least_revision: Annotated[
        int,
        Option(
            min=0, max=LAST_REVISION, help="Answer from the state at this revision or a later one."
        ),
    ] = 0,
    cost: Annotated[
        int,
        Option(min=0, max=1_000_000, help="The cost of this check against the key's rate limit."),
    ] = 1,
    output: OutputOption = "table",
    quiet: QuietOption = False,
) -> None:
    """Ask whether a key is good, and has all of the scopes.

    Exit code 0 means allowed and nothing else does; 1 means denied; every other code means that
    there was no answer. So `keyfence check - -k demo -s vps:write && deploy` is safe.
    """
    if explain and not scope:
        raise typer.BadParameter("--explain explains scopes: name them with --scope")
    key = read_api_key() if api_key == STANDARD_INPUT else api_key
    with connect(context) as client:
        ask = partial(client.check_scope, explain=explain) if scope else client.authenticate
        answer: CheckResult | Authentication = ask(
            key,
            *(scope or ()),
            keyspace=keyspace,
            client_address=address,
            at_least_revision=at_least_revision,
            cost=cost,
        )
    if output == "json":
        say_json(answer)
    elif not quiet:
        _print_answer(answer, scope or [])
    if not answer:
        raise typer.Exit(ExitCode.DENIED)


def whoami(context: typer.Context, output: OutputOption = "table") -> None:
    """Show whose credential this is: an operator's, or an account's key or session."""
    with connect(context) as client:
        identity = client.who_am_i()
    print_record(identity, lambda one: _described(one.principal), output)


def _print_answer(answer: CheckResult | Authentication, scopes: list[str]) -> None:
    from keyfence.results import CheckResult

    is_check = isinstance(answer, CheckResult)
    missing = answer.missing_scopes if isinstance(answer, CheckResult) else ()
    if answer:
        what = f"allowed: the key has {', '.join(scopes)}" if is_check else "the key is good"
        print_styled((f"{mark(True)}{what}", "bold green"))
    else:
        why = f"the key lacks {', '.join(missing)}" if missing else ""
        why = why or _MEANINGS.get(answer.reason, "")
        said = f"{mark(False)}denied: {why}" if why else f"{mark(False)}denied"
        print_styled((said, "bold red"), (f"  ({answer.reason})", "dim"))
    if answer.stale:
        print_styled(("may be out of date: answered from memory, without a lease", "bold yellow"))
    if answer.principal:
        print_fields(_described(answer.principal) | _limited(answer.rate_limit))
    if isinstance(answer, CheckResult) and answer.explanation:
        _print_explanation(answer.explanation, missing)


def _limited(status: RateLimitStatus | None) -> dict[str, str]:
    if status is None:
        return {}
    rate = str(Rate(status.limit, status.window))
    whose = " of the account" if status.subject == "ACCOUNT" else ""
    uncertain = {"LOCAL": ", by this server's own count", "NONE": ", not counted for now"}
    reset = moment(status.reset_time)
    left = f"{status.remaining} of {rate}{whose} left, full again at {reset}"
    return {
        "rate limit": left + uncertain.get(status.count, ""),
        "try again in": f"{status.retry_after}s" if status.retry_after else "",
    }


def _print_explanation(explanation: ScopeExplanation, missing: tuple[str, ...]) -> None:
    print_styled(("", ""))
    for held in explanation.held:
        path = f" {arrow()} ".join(held.path)
        if held.granted != held.path[0]:
            path = f"{held.granted}, which covers {path}"
        print_styled((f"{held.scope}: ", "bold"), (f"granted by {path}", ""))
    capped = {one.scope: one.capped_by for one in explanation.capped}
    for scope in missing:
        why = f"excluded by {capped[scope]}" if scope in capped else "not granted"
        print_styled((f"{scope}: ", "bold"), (f"missing, {why}", ""))
    if explanation.sufficient_grants:
        grants = ", ".join(explanation.sufficient_grants)
        print_styled(("A grant of ", ""), (grants, "bold"), (" would be enough.", ""))


def _described(principal: Principal) -> dict[str, str]:
    if principal.session_id:
        return {
            "session": principal.session_id,
            "account": principal.account_id,
            "keyspace": principal.keyspace,
            "expires": moment(principal.expire_time),
        }
    return {
        "key": principal.key_id,
        "name": principal.display_name,
        "display prefix": f"{principal.display_prefix}…",
        "account": principal.account_id,
        "keyspace": principal.keyspace,
        "type": f"{principal.key_type}, {principal.environment}",
        "granted scopes": ", ".join(principal.granted_scopes) or "nothing",
        "effective scopes": scopes_text(principal) or "nothing",
        "expires": moment(principal.expire_time, absent="never"),
        "acts on": ", ".join(principal.bound_keyspaces),
        "labels": labels_text(principal.labels),
        "delegated from": principal.parent_key_id,
    }
