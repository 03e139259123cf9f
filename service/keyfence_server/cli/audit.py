"""`keyfence audit`: reads, verifies and exports the audit log."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer
from typer import Argument, Option

from keyfence_server.adapters.keyspace_files.source_text import printable
from keyfence_server.cli.completion import keyspace_option
from keyfence_server.cli.connection import connect
from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.old_log import OldEvent, read_old_log
from keyfence_server.cli.option_values import since
from keyfence_server.cli.output import (
    Output,
    OutputOption,
    QuietOption,
    mark,
    moment,
    note,
    plain,
    print_styled,
    print_table,
    say,
    say_json,
)
from keyfence_server.cli.restrictive_changes import events_since_backup, steps

if TYPE_CHECKING:
    from keyfence import Client
    from keyfence.results import AuditEvent, AuditVerification

app = typer.Typer(name="audit", help="Read, verify and export the audit log.", no_args_is_help=True)

_ANCHOR: Final = re.compile(r"([1-9][0-9]{0,18}):([0-9a-f]{64})")
_PAGE: Final = 1_000
_MOST_IN_A_CALL: Final = 10_000


class Anchor(tuple[int, bytes]):
    """An event's sequence and its hash, as they were noted at an earlier time."""

    __slots__ = ()


def _anchor(text: str) -> Anchor:
    found = _ANCHOR.fullmatch(text)
    if found is None:
        raise typer.BadParameter("write an anchor as SEQUENCE:HASH, as `audit verify` prints it")
    return Anchor((int(found[1]), bytes.fromhex(found[2])))


@app.command(name="list")
def list_events(
    context: typer.Context,
    keyspace: Annotated[str, keyspace_option("Only events of this keyspace.")] = "",
    account: Annotated[
        str, Option("--account", "-a", metavar="ID", help="Only events of this account.")
    ] = "",
    subject: Annotated[
        str, Option(metavar="ID", help="Only actions on this key, account or keyspace.")
    ] = "",
    actor: Annotated[str, Option(metavar="ID", help="Only actions of this credential.")] = "",
    action: Annotated[
        str, Option(metavar="PREFIX", help="Only actions with this prefix: key., check.denied, …")
    ] = "",
    start: Annotated[
        datetime | None,
        Option(
            "--since", parser=since, metavar="TIME", help="Only later events: 15m ago, or a time."
        ),
    ] = None,
    end: Annotated[
        datetime | None,
        Option("--until", parser=since, metavar="TIME", help="Only earlier events."),
    ] = None,
    limit: Annotated[int, Option(min=0, help="Only the last N events. 0: all events.")] = 50,
    follow: Annotated[
        bool, Option("--follow", "-f", help="Keep printing new events, until Ctrl-C.")
    ] = False,
    interval: Annotated[
        float, Option(min=0.1, metavar="SECONDS", help="With --follow: how often to ask.")
    ] = 2.0,
    output: OutputOption = "table",
) -> None:
    """List the last audit events, in the order in which things happened.

    With --follow and --output json each event is one line of JSON.
    """
    which = {
        "keyspace": keyspace or None,
        "account_id": account or None,
        "subject": subject or None,
        "actor_id": actor or None,
        "action_prefix": action or None,
        "start_time": start,
        "end_time": end,
    }
    with connect(context) as client:
        events = _last(client, which, limit)
        if not follow:
            _print_events(events, output)
            return
        for event in itertools.chain(events, _following(client, which, events, interval)):
            _print_line(event, output)


def _last(client: Client, which: Mapping[str, object], limit: int) -> list[AuditEvent]:
    newest_first = client.list_audit_events(
        newest_first=True,
        page_size=min(limit, _PAGE) if limit else _PAGE,
        **which,  # type: ignore[arg-type]
    )
    events = list(itertools.islice(newest_first, limit or None))
    events.reverse()
    return events


def _following(
    client: Client, which: Mapping[str, object], events: list[AuditEvent], interval: float
) -> Iterator[AuditEvent]:
    seen = events[-1].event_id if events else ""
    while True:
        time.sleep(interval)
        for event in client.list_audit_events(after_event_id=seen, page_size=_PAGE, **which):  # type: ignore[arg-type]
            seen = event.event_id
            yield event


@app.command()
def verify(
    context: typer.Context,
    files: Annotated[
        list[str] | None,
        Argument(
            metavar="[FILE]...",
            help="Files of `audit export`, in their order. Without files: the server's log.",
            show_default=False,
        ),
    ] = None,
    anchor: Annotated[
        list[Anchor] | None,
        Option(
            parser=_anchor,
            metavar="SEQUENCE:HASH",
            help="An anchor that this command printed earlier. May be repeated.",
        ),
    ] = None,
    output: OutputOption = "table",
    quiet: QuietOption = False,
) -> None:
    """Verify the hash chain of all audit events.

    Exit code 0: the chain is intact. Exit code 1: an event was edited, removed or moved, or
    the end of the log was cut off. An attacker with write access to the database can rebuild
    the whole chain. Only an anchor that was kept elsewhere reveals that.

    With --quiet the command prints only the current anchor.

    With files, the command verifies the files, each by itself and as the continuation of the
    file before, and asks no server. Pass the printed anchor to a run without files: it shows
    that the server's log continues the files.
    """
    anchors = sorted(anchor or ())
    if files:
        from keyfence_server.cli.audit_archive import verify_archives

        verified = verify_archives(files, anchors)
    else:
        with connect(context) as client:
            verified = _verified(client, anchors)
    if output == "json":
        say_json(verified)
    elif verified.problem:
        print_styled((f"{mark(False)}the audit log was changed: {verified.problem}", "bold red"))
    elif quiet:
        say(_written(verified))
    else:
        events = f"{verified.sequence - verified.removed_sequence} events"
        if verified.removed_sequence:
            events = f"events {verified.removed_sequence + 1} to {verified.sequence}"
        print_styled((f"{mark(True)}the audit log is intact: {events}", "bold green"))
        if verified.sequence:
            note("Keep this anchor where the server cannot write:")
            say(_written(verified))
    if verified.problem:
        raise typer.Exit(ExitCode.DENIED)


@app.command()
def export(
    context: typer.Context,
    file: Annotated[
        str,
        Argument(metavar="FILE|-", help="The file to write or to continue; - for standard output."),
    ],
    after: Annotated[
        Anchor | None,
        Option(
            parser=_anchor,
            metavar="SEQUENCE:HASH",
            help="Begin a new file behind this event, with which the file before ends.",
        ),
    ] = None,
    record: Annotated[
        bool,
        Option(
            "--record",
            help="When the file is on the disk, record that its events are exported: servers may "
            "remove them then. Needs the scope audit:export.",
        ),
    ] = False,
) -> None:
    """Export the audit log as JSON Lines, for an archive.

    The events of all keyspaces are exported, from the first one that the server holds. A file
    that has events already is continued. The command verifies each event before it writes it,
    and prints the anchor of the last one.
    """
    from keyfence_server.application.ports import ChainEnd
    from keyfence_server.cli.audit_archive import STANDARD_OUTPUT
    from keyfence_server.cli.audit_archive import export as export_to

    if record and file == STANDARD_OUTPUT:
        raise typer.BadParameter("--record needs a file: only what is on a disk is archived")
    with connect(context) as client:
        exported = export_to(client, file, ChainEnd(*after) if after else None)
        end = exported.end
        if record and end.count > exported.before:
            client.record_audit_export(exported.before, end.count, end.hash)
    note(f"{exported.added} events exported.")
    if file != STANDARD_OUTPUT:
        say(f"{end.count}:{end.hash.hex()}")


@app.command()
def restrictive_changes(
    context: typer.Context,
    old: Annotated[
        str,
        Argument(
            metavar="OLD",
            help="The old SQLite file, the old database's URL, or the output of `audit list "
            "--limit 0 -o json`; - for standard input.",
        ),
    ],
    output: Annotated[
        Literal["sh", "json"],
        Option("--output", "-o", help="A shell script, or JSON.", metavar="sh|json"),
    ] = "sh",
) -> None:
    """After restoring a backup: list the restrictive changes made since, as a script.

    Connect to the restored server. Its log and the old log are equal up to the backup; the
    list begins there. Read the shell script, then run it. A change that a command can make
    again is a command; every other change is a comment. Every command can be repeated.
    """
    log = read_old_log(old)
    with connect(context) as client:
        events = events_since_backup(client, log)
    found = list(steps(events, log.keys, datetime.now(UTC)))
    if output == "json":
        say_json({"steps": found})
        return
    note(f"{len(events)} events since the backup; {len(found)} of them must be done again.")
    for step in found:
        say(_heading(step.event))
        if step.by_hand:
            say(printable(f"#   BY HAND: {step.by_hand}"))
        for command in step.commands:
            say(shlex.join(("keyfence", *command)))


def _heading(event: OldEvent) -> str:
    where = f" in {event.keyspace}" if event.keyspace != event.subject else ""
    by = f" by {event.actor_id}" if event.actor_id else ""
    return printable(f"# {moment(event.time)}: {event.action} {event.subject}{where}{by}")


def _verified(client: Client, anchors: list[Anchor]) -> AuditVerification:
    """Verifies the whole chain, and compares it with each anchor on the way."""
    begin = client.verify_audit_events(max_events=1)
    sequence, digest, problem = begin.removed_sequence, begin.removed_hash, begin.problem
    while anchors and not problem and anchors[0][0] <= sequence:
        noted, noted_digest = anchors.pop(0)
        if noted < sequence:
            problem = (
                f"event {noted} was removed from the database; verify the exported file with its "
                "anchor: keyfence audit verify FILE --anchor …"
            )
        elif noted_digest != digest:
            problem = f"event {sequence}, which was removed, differs from the anchor"
    if problem:
        return replace(begin, complete=False, problem=problem)
    while True:
        stop = anchors[0][0] - sequence if anchors else _MOST_IN_A_CALL
        verified = client.verify_audit_events(
            after_sequence=sequence, after_hash=digest, max_events=min(stop, _MOST_IN_A_CALL)
        )
        sequence, digest = verified.sequence, verified.hash
        problem = verified.problem
        while anchors and not problem and sequence == anchors[0][0]:
            if digest != anchors.pop(0)[1]:
                problem = f"event {sequence} differs from the anchor"
        if not problem and anchors and verified.complete:
            problem = f"event {anchors[0][0]} of the anchor does not exist any more"
        if problem or verified.complete:
            return replace(verified, complete=not problem, problem=problem)


def _written(verified: AuditVerification) -> str:
    return f"{verified.sequence}:{verified.hash.hex()}"


_COLUMNS: Final = ("#", "TIME", "ACTION", "KEYSPACE", "SUBJECT", "BY", "DETAILS")


def _print_events(events: Iterable[AuditEvent], output: Output) -> None:
    events = list(events)
    if output == "json":
        say_json({"events": events})
    elif not events:
        note("No events.")
    else:
        print_table(_COLUMNS, map(_row, events))


def _print_line(event: AuditEvent, output: Output) -> None:
    if output == "json":
        say(json.dumps(plain(event)))
    else:
        print_styled(("  ".join(cell for cell in _row(event) if cell), ""))


def _row(event: AuditEvent) -> tuple[str, ...]:
    details = ", ".join(f"{name}={_short(value)}" for name, value in event.details.items() if value)
    return (
        str(event.sequence or ""),
        moment(event.time.astimezone(UTC)),
        event.action,
        event.keyspace,
        event.subject,
        event.actor_id,
        details,
    )


def _short(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list):
        return "+".join(map(str, value))
    return str(value)
