"""How keyspaces are shown, and what a declaration changes."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Final

from keyfence_server.cli.output import (
    plain,
    print_fields,
    print_styled,
    print_table,
    say,
    timestamp,
)
from keyfence_server.domain.documents import declaration_to_document
from keyfence_server.domain.plurals import counted

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from keyfence.v1.keyspace_pb2 import Keyspace
    from keyfence.v1.keyspace_service_pb2 import ApplyKeyspaceResponse, KeyspaceDiff

_LISTED: Final = frozenset({"scopes", "resources"})
"""Fields whose changes show in the scopes, which are listed one by one."""


def print_applied(answer: ApplyKeyspaceResponse, *, dry_run: bool) -> None:
    """Prints what applying a declaration changed, or would change."""
    diff, name = answer.diff, answer.keyspace.name
    if diff.created:
        scopes = count_scopes(answer.keyspace)
        what = "would be created" if dry_run else f"created at revision {answer.revision}"
        print_styled((name, "bold"), (f": {what}, with {counted(scopes, 'scope')}", ""))
        return
    if not _changes(diff):
        print_styled((name, "bold"), (f": unchanged at revision {answer.revision}", ""))
        return
    what = "would change" if dry_run else f"changed at revision {answer.revision}"
    print_styled((name, "bold"), (f": {what}", ""))
    for sign, style, names in (
        ("+", "green", diff.added_scopes),
        ("-", "red", diff.removed_scopes),
        ("~", "yellow", diff.changed_scopes),
    ):
        for scope in names:
            print_styled((f"  {sign} {scope}", style))
    other = [field for field in diff.changed_fields if not (field in _LISTED and _lists(diff))]
    if other:
        print_styled((f"  ~ {', '.join(other)}", "yellow"))
    _print_affected_keys(diff, dry_run=dry_run)


def _lists(diff: KeyspaceDiff) -> bool:
    return bool(diff.added_scopes or diff.removed_scopes or diff.changed_scopes)


def _print_affected_keys(diff: KeyspaceDiff, *, dry_run: bool) -> None:
    if not diff.affected_key_count:
        print_styled(("  No key gains or loses a scope.", "dim"))
        return
    count = diff.affected_key_count
    hold = "would hold" if dry_run else "holds" if count == 1 else "hold"
    print_styled((f"  {counted(count, 'key')} {hold} other scopes:", ""))
    print_table(
        ("KEY", "NAME", "ACCOUNT", "GAINS", "LOSES"),
        (
            (
                change.key_id,
                change.display_name,
                change.account_id,
                ", ".join(change.gained_scopes),
                ", ".join(change.lost_scopes),
            )
            for change in diff.affected_keys
        ),
    )
    unnamed = count - len(diff.affected_keys)
    if unnamed:
        print_styled((f"  … and {unnamed} more.", ""))


def _changes(diff: KeyspaceDiff) -> bool:
    return bool(diff.created or diff.changed_fields or _lists(diff) or diff.affected_key_count)


def applied_document(answer: ApplyKeyspaceResponse, *, dry_run: bool) -> dict[str, object]:
    """The same, for scripts."""
    diff = answer.diff
    return {
        "keyspace": answer.keyspace.name,
        "dry_run": dry_run,
        "changed": _changes(diff),
        "revision": answer.revision,
        "diff": {
            "created": diff.created,
            "added_scopes": plain(diff.added_scopes),
            "removed_scopes": plain(diff.removed_scopes),
            "changed_scopes": plain(diff.changed_scopes),
            "changed_fields": plain(diff.changed_fields),
            "affected_key_count": diff.affected_key_count,
            "affected_keys": [
                {
                    "key_id": change.key_id,
                    "account_id": change.account_id,
                    "display_name": change.display_name,
                    "gained_scopes": plain(change.gained_scopes),
                    "lost_scopes": plain(change.lost_scopes),
                }
                for change in diff.affected_keys
            ],
        },
    }


def keyspace_document(keyspace: Keyspace) -> dict[str, object]:
    """What the server knows of a keyspace: its file's content, and its history beside it."""
    from keyfence_server.rpc.convert.keyspaces import declaration_from

    return {
        "name": keyspace.name,
        "declaration": declaration_to_document(declaration_from(keyspace)),
        "revision": keyspace.revision,
        "create_time": _time(keyspace.create_time),
        "update_time": _time(keyspace.update_time),
    }


def _time(message: Timestamp) -> str | None:
    if not message.seconds and not message.nanos:
        return None
    return timestamp(message.ToDatetime(tzinfo=UTC))


def print_keyspace(keyspace: Keyspace) -> None:
    """Prints what a keyspace declares."""
    body = keyspace.format.body
    print_fields(
        {
            "keyspace": keyspace.name,
            "name": keyspace.display_name,
            "description": keyspace.description,
            "keys look like": keyspace.format.template,
            "body": f"{body.length} characters of {body.alphabet}, {body.shown} of them shown",
            "key types": ", ".join(kind.name for kind in keyspace.key_types),
            "environments": ", ".join(one.name for one in keyspace.environments),
            "revision": str(keyspace.revision),
        }
    )
    rows = [(scope.name, ", ".join(scope.implies), scope.description) for scope in keyspace.scopes]
    for resource in keyspace.resources:
        weaker = ""
        for level in resource.levels:
            name = f"{resource.name}:{level.name}"
            rows.append((name, weaker, level.description))
            weaker = name
    if rows:
        say("")
        print_table(("SCOPE", "IMPLIES", "ALLOWS"), rows)
    if keyspace.presets:
        say("")
        print_table(
            ("PRESET", "NAME", "SCOPES"),
            (
                (preset.name, preset.display_name, ", ".join(preset.scopes))
                for preset in keyspace.presets
            ),
        )


def count_scopes(keyspace: Keyspace) -> int:
    """How many scopes are registered, those of resources included."""
    return len(keyspace.scopes) + sum(len(resource.levels) for resource in keyspace.resources)
