"""How keyspaces are shown, and what a declaration changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from keyfence_server.cli.output import (
    plain,
    print_fields,
    print_rest,
    print_styled,
    print_table,
    say,
)
from keyfence_server.domain.plurals import counted

if TYPE_CHECKING:
    from keyfence import AppliedKeyspace, Keyspace, KeyspaceDiff

_LISTED: Final = frozenset({"scopes", "resources"})
"""Fields whose changes show in the scopes, which are listed one by one."""


def print_applied(answer: AppliedKeyspace, *, dry_run: bool) -> None:
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
    _print_dropped_formats(diff, dry_run=dry_run)


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
    print_rest(count - len(diff.affected_keys))


def _print_dropped_formats(diff: KeyspaceDiff, *, dry_run: bool) -> None:
    if not diff.dropped_formats:
        return
    is_dropped = "would no longer be" if dry_run else "is no longer"
    for template in diff.dropped_formats:
        print_styled((f"  - format {template} {is_dropped} recognised", "red"))
    count = diff.cut_off_key_count
    if not count:
        print_styled(("  No key has a display prefix of a dropped format.", "dim"))
        return
    stop = "would stop" if dry_run else "stops" if count == 1 else "stop"
    print_styled((f"  {counted(count, 'key')} {stop} working, by the display prefix:", ""))
    print_table(
        ("KEY", "DISPLAY PREFIX", "NAME", "ACCOUNT"),
        (
            (key.key_id, key.display_prefix, key.display_name, key.account_id)
            for key in diff.cut_off_keys
        ),
    )
    print_rest(count - len(diff.cut_off_keys))


def _changes(diff: KeyspaceDiff) -> bool:
    return bool(
        diff.created
        or diff.changed_fields
        or _lists(diff)
        or diff.affected_key_count
        or diff.dropped_formats
    )


def applied_document(answer: AppliedKeyspace, *, dry_run: bool) -> dict[str, object]:
    """The same, for scripts."""
    diff = answer.diff
    return {
        "keyspace": answer.keyspace.name,
        "dry_run": dry_run,
        "changed": _changes(diff),
        "revision": answer.revision,
        "diff": plain(diff),
    }


def keyspace_document(keyspace: Keyspace) -> dict[str, object]:
    """What the server knows of a keyspace: its file's content, and its history beside it."""
    from keyfence_server.convert.keyspaces import declaration_from
    from keyfence_server.domain.documents import declaration_to_document

    return {
        "name": keyspace.name,
        "declaration": declaration_to_document(declaration_from(keyspace.declaration)),
        "previous_formats": [one.template for one in keyspace.declaration.previous_formats],
        "revision": keyspace.revision,
        "create_time": plain(keyspace.create_time),
        "update_time": plain(keyspace.update_time),
    }


def print_keyspace(keyspace: Keyspace) -> None:
    """Prints what a keyspace declares."""
    declared = keyspace.declaration
    body = declared.format.body
    print_fields(
        {
            "keyspace": keyspace.name,
            "name": declared.display_name,
            "description": declared.description,
            "keys look like": declared.format.template,
            "body": f"{body.length} characters of {body.alphabet}, {body.shown} of them shown",
            "key types": ", ".join(kind.name for kind in declared.key_types),
            "environments": ", ".join(one.name for one in declared.environments),
            "revision": str(keyspace.revision),
        }
    )
    rows = [(scope.name, ", ".join(scope.implies), scope.description) for scope in declared.scopes]
    for resource in declared.resources:
        weaker = ""
        for level in resource.levels:
            name = f"{resource.name}:{level.name}"
            rows.append((name, weaker, level.description))
            weaker = name
    if rows:
        say("")
        print_table(("SCOPE", "IMPLIES", "ALLOWS"), rows)
    if declared.presets:
        say("")
        print_table(
            ("PRESET", "NAME", "SCOPES"),
            (
                (preset.name, preset.display_name, ", ".join(preset.scopes))
                for preset in declared.presets
            ),
        )


def count_scopes(keyspace: Keyspace) -> int:
    """How many scopes are registered, those of resources included."""
    from keyfence.holder.memory import registered_scopes

    return len(registered_scopes(keyspace.declaration))
