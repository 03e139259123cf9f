"""Sends the keys of a file to the server, so many at a time."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from keyfence_server.cli.import_files import Line
from keyfence_server.domain.redaction import hide_keys

if TYPE_CHECKING:
    from keyfence import Client
    from keyfence.results import ImportedKeys

BATCH: Final = 500
"""Keys in a call: the most that a server takes."""
CALLS_AT_ONCE: Final = 3
_BATCH_BYTES: Final = 512 * 1024
"""Of the lines of a call: a server takes requests of a megabyte."""
_SECRET: Final = attrgetter("api_key", "sha256", "sha512", "hmac_sha256", "password_hash")


@dataclass(slots=True)
class Sums:
    """What has come of the lines so far."""

    imported: int = 0
    present: int = 0
    refused: int = 0
    done: int = 0


def import_lines(
    client: Client,
    keyspace: str,
    lines: Iterable[Line],
    *,
    dry_run: bool,
    refuse: Callable[[int, str], None],
    progress: Callable[[Sums], None],
) -> Sums:
    """Imports the keys of the lines, so many at a time.

    Args:
        refuse: is told the number of each line that was not imported, and why.
        progress: is told how far it has come, after each call.
    """
    sums = Sums()

    def note_end(sent: _Sent) -> None:
        for line in sent.batch:
            if line.key is None:
                refuse(line.number, hide_keys(line.problem))
                sums.refused += 1
        if sent.call is not None:
            imported = sent.call.result()
            sums.imported += imported.imported_count
            sums.present += imported.present_count
            sums.refused += len(imported.refused)
            for one in imported.refused:
                refuse(sent.numbers[one.index], hide_keys(f"{one.reason}: {one.message}"))
        sums.done = sent.batch[-1].number
        progress(sums)

    under_way: deque[_Sent] = deque()
    # The next lines are read and checked while the server commits the ones before.
    with ThreadPoolExecutor(CALLS_AT_ONCE) as callers:
        for batch in _batches(lines):
            sent = _Sent(batch)
            while under_way and (len(under_way) == CALLS_AT_ONCE or sent.repeats(under_way)):
                note_end(under_way.popleft())
            if sent.keys:
                sent.call = callers.submit(
                    client.import_keys, keyspace, sent.keys, validate_only=dry_run
                )
            under_way.append(sent)
        for sent in under_way:
            note_end(sent)
    return sums


class _Sent:
    """Lines whose keys are being imported.

    Attributes:
        keys: of the lines with a key, in their order.
        numbers: of the same lines.
        secrets: of the same keys.
        call: None: there is no key among them.
    """

    def __init__(self, batch: list[Line]) -> None:
        self.batch = batch
        self.keys = [line.key for line in batch if line.key is not None]
        self.numbers = [line.number for line in batch if line.key is not None]
        self.call: Future[ImportedKeys] | None = None
        self.secrets = set(map(_SECRET, self.keys))

    def repeats(self, others: Iterable[_Sent]) -> bool:
        """Whether one of its keys is among others. Of two lines with a key, the first counts."""
        return not all(self.secrets.isdisjoint(sent.secrets) for sent in others)


def _batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    batch: list[Line] = []
    size = 0
    for line in lines:
        if len(batch) == BATCH or size + line.size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += line.size
    if batch:
        yield batch


class Progress:
    """How far an import has come, in a line of the terminal that is written again and again.

    Without a terminal nothing is written.
    """

    def __init__(self) -> None:
        self._stream = sys.stderr
        self._width = 0

    def show(self, sums: Sums) -> None:
        """Shows these sums in place of the last ones."""
        self._write(
            f"{sums.done} lines: {sums.imported} imported, {sums.present} there already, "
            f"{sums.refused} refused"
        )

    def clear(self) -> None:
        """Empties the line, so that something else can be written."""
        if self._width:
            self._write("")

    def _write(self, text: str) -> None:
        if self._stream.isatty():
            end = "\r" if not text else ""
            self._stream.write(f"\r{text.ljust(self._width)}{end}")
            self._stream.flush()
            self._width = len(text)
