"""`keyfence keys import`: keys that another program has made."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Annotated

import typer
from typer import Argument, Option

from keyfence_server.cli.connection import connect
from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import Failure, failing
from keyfence_server.cli.import_files import Form, Layout, read_lines
from keyfence_server.cli.import_sources import Source
from keyfence_server.cli.imports import Progress, import_lines
from keyfence_server.cli.key_options import KeyspaceOption
from keyfence_server.cli.option_values import read_pairs
from keyfence_server.cli.output import OutputOption, note, say, say_json
from keyfence_server.cli.standard_input import STANDARD_INPUT, standard_input
from keyfence_server.domain.plurals import counted


def import_keys(
    context: typer.Context,
    file: Annotated[
        str, Argument(metavar="FILE|-", help='JSON Lines or CSV; "-" is standard input.')
    ],
    keyspace: KeyspaceOption,
    form: Annotated[
        Form | None, Option("--format", metavar="jsonl|csv", help="Without it: by the file's name.")
    ] = None,
    source: Annotated[Source, Option("--from", help="Whose file it is.")] = Source.KEYFENCE,
    names: Annotated[
        list[str] | None,
        Option("--map", metavar="COLUMN=FIELD", help="What a name in the file means."),
    ] = None,
    absent: Annotated[
        list[str] | None,
        Option("--set", metavar="FIELD=VALUE", help="For lines without this field."),
    ] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Check every line, and import nothing.")
    ] = False,
    output: OutputOption = "table",
) -> None:
    """Import keys that another program has made, by plaintext or hash.

    Each line has a key: its account_id; one of api_key, sha256, sha512, hmac_sha256 (in hexadecimal
    digits or base64), password_hash and hashed_key, the last two with prefix; and any of scopes,
    preset, display_name, key_type, environment, expire_time, allowed_addresses, labels and
    rate_limit. Lines that are refused are reported with their numbers. A key that is there already
    is left as it is, so after an interruption the same command goes on.
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
    if output == "json":
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


def _opened(file: str) -> AbstractContextManager[IO[bytes]]:
    if file == STANDARD_INPUT:
        return nullcontext(standard_input())
    with failing(ExitCode.WRONG_INPUT, OSError, about=file):
        return Path(file).open("rb")
