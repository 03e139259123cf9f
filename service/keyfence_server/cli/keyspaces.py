"""`keyfence keyspaces`: applies declarations, and shows what they would change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Argument, Option

from keyfence_server.adapters.keyspace_files.source_text import Fault, InvalidKeyspaceFile
from keyfence_server.cli.completion import complete_keyspace
from keyfence_server.cli.connection import connect
from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import Failure, failing
from keyfence_server.cli.keyspace_output import (
    applied_document,
    count_scopes,
    keyspace_document,
    print_applied,
    print_keyspace,
)
from keyfence_server.cli.output import (
    IfRevisionOption,
    OutputOption,
    note,
    print_list,
    say,
    say_json,
)
from keyfence_server.cli.standard_input import STANDARD_INPUT, standard_input
from keyfence_server.domain.errors import DomainError

if TYPE_CHECKING:
    from keyfence import AppliedKeyspace, Client, Keyspace
    from keyfence_server.adapters.keyspace_files.reading import KeyspaceFile

app = typer.Typer(
    name="keyspaces", help="Apply, validate and show keyspaces.", no_args_is_help=True
)


@app.command()
def apply(
    context: typer.Context,
    files: Annotated[
        list[str],
        Option(
            "--file",
            "-f",
            metavar="FILE",
            help="A keyspace file, or '-' for standard input. May be repeated.",
        ),
    ],
    dry_run: Annotated[bool, Option("--dry-run", help="Only show the changes.")] = False,
    if_revision: IfRevisionOption = 0,
    drop_formats: Annotated[
        list[str] | None,
        Option(
            "--drop-format",
            metavar="TEMPLATE",
            help="An earlier format that is no longer recognised, or '*' for all. Keys of this "
            "format stop working. May be repeated.",
        ),
    ] = None,
    output: OutputOption = "table",
) -> None:
    """Make keyspaces as their files declare, or change them to that.

    Says which scopes come and go, and which keys gain or lose what. Every file is read
    before the first is applied, and a file with a fault stops them all.
    """
    declared = _read_all(files)
    if len(declared) > 1 and (if_revision or drop_formats):
        raise typer.BadParameter("--if-revision and --drop-format go with a single --file")
    with connect(context) as client:
        if len(declared) > 1 and not dry_run:
            # What the server refuses should stop the first file as well as the last.
            for file in declared:
                _apply(client, file, dry_run=True)
        answers = []
        for file in declared:
            answer = _apply(
                client,
                file,
                dry_run=dry_run,
                if_revision=if_revision,
                drop_formats=drop_formats or (),
            )
            answers.append(answer)
            if output == "table":
                print_applied(answer, dry_run=dry_run)
    if output == "json":
        say_json({"applied": [applied_document(answer, dry_run=dry_run) for answer in answers]})
    elif dry_run:
        note("This was a dry run: nothing was changed.")


@app.command()
def validate(
    files: Annotated[
        list[str], Argument(metavar="FILE...", help="Keyspace files, or '-' for standard input.")
    ],
    output: OutputOption = "table",
) -> None:
    """Check keyspace files without a server. Every fault is shown at its line.

    What only a server knows, such as the keys that a change would affect, is shown by
    `keyfence keyspaces apply --dry-run`.
    """
    from keyfence_server.application.apply_keyspace import require_applicable

    valid = []
    for file in _read_all(files):
        with failing(ExitCode.WRONG_INPUT, DomainError, about=file.source.name):
            require_applicable(file.declaration)
        valid.append({"file": file.source.name, "keyspace": file.declaration.name})
        if output == "table":
            say(f'{file.source.name}: a valid keyspace, "{file.declaration.name}"')
    if output == "json":
        say_json({"valid": valid})


@app.command()
def schema() -> None:
    """Print the JSON Schema of keyspace files, with which an editor completes and checks them."""
    from keyfence_server.domain.documents import schema_of_documents

    say_json(schema_of_documents())


@app.command(name="list")
def list_keyspaces(context: typer.Context, output: OutputOption = "table") -> None:
    """List the keyspaces that your credential is bound to."""
    with connect(context) as client:
        keyspaces = list(client.list_keyspaces())
    if output == "json":
        say_json({"keyspaces": [keyspace_document(keyspace) for keyspace in keyspaces]})
    elif not keyspaces:
        note("No keyspaces. `keyfence keyspaces apply -f FILE` makes one.")
    else:
        columns: Mapping[str, Callable[[Keyspace], str]] = {
            "KEYSPACE": lambda one: one.name,
            "NAME": lambda one: one.declaration.display_name,
            "SCOPES": lambda one: str(count_scopes(one)),
            "PRESETS": lambda one: ", ".join(preset.name for preset in one.declaration.presets),
            "KEY FORMAT": lambda one: one.declaration.format.template,
            "REVISION": lambda one: str(one.revision),
        }
        print_list(keyspaces, columns)


@app.command()
def get(
    context: typer.Context,
    keyspace: Annotated[
        str, Argument(autocompletion=complete_keyspace, help="The keyspace's name.")
    ],
    output: Annotated[
        Literal["table", "json", "yaml"],
        Option("--output", "-o", metavar="table|json|yaml", help="yaml is a file to apply again."),
    ] = "table",
) -> None:
    """Show what a keyspace declares."""
    from keyfence_server.convert.keyspaces import declaration_from

    with connect(context) as client:
        found = client.get_keyspace(keyspace)
    if output == "yaml":
        from keyfence_server.adapters.keyspace_files.writing import write_keyspace_document

        say(write_keyspace_document(declaration_from(found.declaration)).rstrip("\n"))
    elif output == "json":
        say_json(keyspace_document(found))
    else:
        print_keyspace(found)


def _read_all(names: Sequence[str]) -> list[KeyspaceFile]:
    """Every file, or the faults of all of them."""
    if list(names).count(STANDARD_INPUT) > 1:
        raise typer.BadParameter("standard input can be read once")
    files: list[KeyspaceFile] = []
    faults: list[Fault] = []
    for name in names:
        try:
            with failing(ExitCode.WRONG_INPUT, OSError, about=name):
                files.append(_read(name))
        except InvalidKeyspaceFile as error:
            faults += error.faults
    if faults:
        raise InvalidKeyspaceFile(faults)
    sources: dict[str, str] = {}
    for file in files:
        first = sources.setdefault(file.declaration.name, file.source.name)
        if first != file.source.name:
            twice = f"{first} and {file.source.name} declare the same keyspace"
            raise Failure(f'{twice}, "{file.declaration.name}"', ExitCode.WRONG_INPUT)
    return files


def _read(name: str) -> KeyspaceFile:
    from keyfence_server.adapters.keyspace_files.reading import (
        MAX_FILE_SIZE,
        parse_keyspace_file,
        read_keyspace_file,
    )

    if name == STANDARD_INPUT:
        return parse_keyspace_file(standard_input().read(MAX_FILE_SIZE + 1), name="<stdin>")
    return read_keyspace_file(Path(name))


def _apply(
    client: Client,
    file: KeyspaceFile,
    *,
    dry_run: bool,
    if_revision: int = 0,
    drop_formats: Sequence[str] = (),
) -> AppliedKeyspace:
    from keyfence import InvalidRequest
    from keyfence_server.convert.keyspaces import keyspace_of

    try:
        return client.apply_keyspace(
            keyspace_of(file.keyspace),
            validate_only=dry_run,
            if_revision=if_revision,
            drop_previous_formats=drop_formats,
        )
    except InvalidRequest as error:
        if not error.violations:
            raise
        # Each is shown at its line.
        violations = [(one.field, one.description) for one in error.violations]
        raise file.faults(violations) from None
