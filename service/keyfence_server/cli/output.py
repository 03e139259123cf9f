"""How answers are shown: tables for people, JSON for scripts, bare words for pipes.

Untrusted text, such as a display name, never reaches the terminal unchanged: control
characters are spelled out, and nothing in it is taken for markup.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from io import TextIOWrapper
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeVar

from typer import Option

from keyfence_server.adapters.keyspace_files.source_text import printable
from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import Failure
from keyfence_server.domain.limits import Rate

if TYPE_CHECKING:
    from rich.console import Console

    from keyfence.results import RateLimit

T = TypeVar("T")

LAST_REVISION: Final = 2**63 - 1
"""The greatest that a revision can be."""
IfRevisionOption = Annotated[
    int, Option(min=0, max=LAST_REVISION, help="Only if its revision is still this one.")
]

_READABLE: Final = 16
"""A column of text is readable at this width: values fold, and the column need not go."""
_LONGEST_ID: Final = 40
_GAP: Final = 2
_TABLE_ROWS: Final = 100
_WIDE: Final = 4096
"""The width of tables that no terminal limits: a pipe gets whole lines."""


Output = Literal["table", "json"]
OutputOption = Annotated[
    Output, Option("--output", "-o", help="A table, or JSON for scripts.", metavar="table|json")
]
QuietOption = Annotated[
    bool, Option("--quiet", "-q", help="Print only the ids or values, for scripts.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListingOptions:
    """How much of a listing is shown, and in which form."""

    limit: Annotated[
        int | None,
        Option(
            min=0,
            show_default=False,
            help="The most items; 0: all. By default a table has at most 100 items, other output "
            "all.",
        ),
    ] = None
    output: OutputOption = "table"
    quiet: QuietOption = False

    def most(self) -> int:
        """How many items to list; 0 for all. What a script reads is never cut off unasked."""
        if self.limit is not None:
            return self.limit
        return 0 if self.quiet or self.output == "json" else _TABLE_ROWS

    def show(
        self,
        name: str,
        listing: Iterable[T],
        *,
        id_of: Callable[[T], str],
        show_table: Callable[[list[T]], None],
    ) -> None:
        """Shows the first items of a listing: as JSON, as ids, or as a table. Only one more than
        these is read.

        Args:
            name: what the items are, in the plural.
        """
        most = self.most()
        items = list(islice(listing, most + 1 if most else None))
        shown = items[:most] if most else items
        if self.output == "json":
            say_json({name: shown})
        elif self.quiet:
            for item in shown:
                say(id_of(item))
        elif shown:
            show_table(shown)
        else:
            note(f"No {name}.")
        if len(shown) < len(items):
            note(f"There are more than {most} {name}; --limit 0 lists them all.")


def console() -> Console:
    """Standard output, in colours on a terminal alone, and in none with NO_COLOR."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _WIDE
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)


def spell_out_what_cannot_be_shown() -> None:
    """Has standard output write what its encoding lacks in ASCII: an answer must not be
    lost because of a display name."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Writes a line to standard output and makes sure that it has left."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Writes a line for people to standard error, out of the way of scripts."""
    # Standard error may be closed, which is no reason to fail.
    with suppress(OSError, AttributeError):
        sys.stderr.write(f"{text}\n")


def say_json(value: object) -> None:
    """Writes a value as JSON. ASCII alone, so that no text can steer a terminal."""
    say(json.dumps(plain(value), indent=2))


def say_json_line(value: object) -> None:
    """Writes a value as one line of JSON."""
    say(json.dumps(plain(value), separators=(",", ":")))


def plain(value: object) -> object:
    """A result of the SDK as JSON types: fields under their names, times in RFC 3339,
    durations in seconds, bytes in hexadecimal, what is not set as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        return int(seconds) if seconds.is_integer() else seconds
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


def timestamp(time: datetime) -> str:
    """A time in RFC 3339, in UTC."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def labels_text(labels: Mapping[str, str]) -> str:
    """Labels as people write them."""
    return ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))


def moment(time: datetime | None, *, absent: str = "") -> str:
    """A time for people, to the second."""
    if time is None:
        return absent
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def rate_text(limit: RateLimit | None) -> str:
    """A rate as people write it; nothing for none."""
    return str(Rate(limit.requests, limit.window)) if limit is not None else ""


def moment_in_short(time: datetime | None, *, absent: str = "") -> str:
    """A time for a column whose heading says that it is in UTC, to the minute."""
    return absent if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M}"


def arrow() -> str:
    """An arrow that standard output can show."""
    return "→" if _can_show("→") else "->"


def mark(good: bool) -> str:
    """A tick or a cross, where standard output can show them."""
    if not _can_show("✓✗"):
        return ""
    return "✓ " if good else "✗ "


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def print_fields(fields: Mapping[str, str]) -> None:
    """Prints names and values, one pair a line, those without a value left out."""
    from rich.text import Text

    out = console()
    width = max((len(name) for name, value in fields.items() if value), default=0)
    for name, value in fields.items():
        if value:
            text = Text(f"{name:<{width}}  ", style="dim")
            out.print(text.append(printable(value), style="default"))


def print_record(record: T, described: Callable[[T], Mapping[str, str]], output: Output) -> None:
    """Prints a record as JSON, or by its fields."""
    if output == "json":
        say_json(record)
    else:
        print_fields(described(record))


def print_list(
    items: Iterable[T], columns: Mapping[str, Callable[[T], str]], *, unbroken: int = 1
) -> None:
    """Prints a table with a row for each item: by a column's heading, what stands in it."""
    rows = ([text_of(item) for text_of in columns.values()] for item in items)
    print_table(tuple(columns), rows, unbroken=unbroken)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, unbroken: int = 1
) -> None:
    """Prints a table with a heading, in the width of the terminal.

    Columns that do not fit are left out, the last ones first, and named on standard error.
    Long values go on in the next line of their column; headings and ids never do.

    Args:
        unbroken: how many of the first columns are always there, with whole values, because
            they are there to be copied.
    """
    from rich.table import Table
    from rich.text import Text

    cells = [[printable(cell) for cell in row] for row in rows]
    out = console()
    natural = [
        max(Text(text).cell_len for text in (column, *(row[index] for row in cells)))
        for index, column in enumerate(columns)
    ]
    least = [
        width
        if index < unbroken
        else max(len(columns[index]), min(width, max(_READABLE, _longest_word(cells, index))))
        for index, width in enumerate(natural)
    ]
    shown = len(columns)
    while shown > unbroken and _table_width(least[:shown]) > out.width:
        shown -= 1
    widths = _widened(least[:shown], natural[:shown], out.width)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
    for column, width in zip(columns[:shown], widths, strict=True):
        table.add_column(column, width=width, overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row[:shown]))
    # Ids are whole even where the terminal is narrower than they are.
    out.width = max(out.width, _table_width(widths))
    with out.capture() as captured:
        out.print(table)
    say("\n".join(line.rstrip() for line in captured.get().splitlines()))
    if shown < len(columns):
        note(
            f"The terminal is too narrow for: {', '.join(columns[shown:])}. "
            "Use a wider terminal, or -o json."
        )


def _longest_word(cells: Sequence[Sequence[str]], index: int) -> int:
    """The width of the longest id or word in a column, which should not be split."""
    words = (len(word) for row in cells for word in row[index].split())
    return min(_LONGEST_ID, max(words, default=0))


def _table_width(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _widened(least: Sequence[int], natural: Sequence[int], room: int) -> list[int]:
    """Widths of columns between the least and the natural ones, the first columns first."""
    left = room - _table_width(least)
    widths = []
    for width, wanted in zip(least, natural, strict=True):
        more = max(0, min(left, wanted - width))
        left -= more
        widths.append(width + more)
    return widths


def print_rest(count: int) -> None:
    """Says how many more items there are, if there are any."""
    if count > 0:
        print_styled((f"  … and {count} more.", ""))


def print_styled(*parts: tuple[str, str]) -> None:
    """Prints a line out of texts with their styles."""
    from rich.text import Text

    console().print(Text.assemble(*((printable(text), style) for text, style in parts)))


@contextmanager
def failing_if_lost(message: str) -> Iterator[None]:
    """Makes a failure of it if an answer that cannot be asked for again cannot be printed."""
    try:
        yield
    except OSError:
        stdout_to_nowhere()
        raise Failure(message, ExitCode.OUTPUT_LOST) from None


def stdout_to_nowhere() -> None:
    """Lets the interpreter end in peace after standard output broke: what is still
    buffered would raise once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
