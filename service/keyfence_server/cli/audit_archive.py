"""Archives of the audit log: files that `keyfence audit export` writes and `verify` reads."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from keyfence_server.adapters.files.private import PRIVATE_FILE, sync_directory
from keyfence_server.application.audit_archive import (
    ArchiveBroken,
    ExportedEvent,
    follow_archive,
    line_of,
)
from keyfence_server.application.ports import ChainEnd
from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import Failure, failing

if TYPE_CHECKING:
    from keyfence import Client
    from keyfence.results import AuditVerification

STANDARD_OUTPUT: Final = "-"
_PAGE: Final = 1_000
_LONGEST_LINE: Final = 1 << 20
_BLOCK: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Exported:
    """What an archive holds now.

    Attributes:
        before: the event before the first one of the file.
        end: the last event.
        added: how many events this run has added.
    """

    before: int
    end: ChainEnd
    added: int


def export(client: Client, target: str, after: ChainEnd | None) -> Exported:
    """Writes all events behind those that the archive holds. Raises `Failure` if the file cannot be
    written or continued, or the server has another log.

    Args:
        target: the file, or "-" for standard output.
        after: the last event of the archive's part before; None to begin with the first event
            that the server holds. A file that holds events already is continued.
    """
    if target == STANDARD_OUTPUT:
        return _write(client, sys.stdout.buffer, after, after)
    path = Path(target)
    with failing(ExitCode.WRONG_INPUT, OSError, about=path):
        with _locked(path) as file:
            first, end = _ends_of(path, file)
            if end is not None and after is not None and end.count < after.count:
                raise Failure(
                    f"{path}: ends with event {end.count}, before --after; use another file",
                    ExitCode.CONFLICT,
                )
            exported = _write(client, file, end or after, first or after)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(path.absolute().parent)
    return exported


def _write(
    client: Client, file: IO[bytes], end: ChainEnd | None, before: ChainEnd | None
) -> Exported:
    added = 0
    while True:
        page = client.export_audit_events(after_sequence=end.count if end else 0, page_size=_PAGE)
        previous = ChainEnd(page.previous_sequence, page.previous_hash)
        if end is None:
            end = before = previous
        if previous != end:
            raise Failure(
                f"the server's event {end.count} is not the one with which the archive ends: a "
                "backup was restored, or this is another server. Begin a new file",
                ExitCode.CONFLICT,
            )
        if not page.events:
            return Exported(before.count if before else 0, end, added)
        lines = []
        digest = end.hash
        for event in page.events:
            lines.append(line_of(digest, ExportedEvent(event.text, event.hash)))
            digest = event.hash
        try:
            end = follow_archive(end, lines)
        except ArchiveBroken as error:
            raise Failure(
                f"the server's audit log was changed: {error}. Run `keyfence audit verify`",
                ExitCode.CONFLICT,
            ) from None
        file.write("".join(f"{line}\n" for line in lines).encode())
        added += len(lines)


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """The file, which no other export writes meanwhile."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)
    with os.fdopen(descriptor, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(f"{path}: another export writes it", ExitCode.CONFLICT) from None
        yield file


def _ends_of(path: Path, file: IO[bytes]) -> tuple[ChainEnd | None, ChainEnd | None]:
    """The event before the first one of the file, and the last one; None if it has none. A last
    line without an end was not written to its end, and is cut off."""
    size = file.seek(0, os.SEEK_END)
    end_of_lines = _last_line_end(file, size)
    if end_of_lines < size:
        file.truncate(end_of_lines)
    if not end_of_lines:
        return None, None
    file.seek(0)
    first = _event_of(path, file.readline(_LONGEST_LINE))
    file.seek(_last_line_end(file, end_of_lines - 1))
    last = _event_of(path, file.readline(_LONGEST_LINE))
    file.seek(0, os.SEEK_END)
    return ChainEnd(first.count - 1, b""), last


def _event_of(path: Path, line: bytes) -> ChainEnd:
    try:
        end = follow_archive(None, [line.decode(errors="replace")])
    except ArchiveBroken as error:
        raise Failure(f"{path}: {error}; use another file", ExitCode.CONFLICT) from None
    if end is None:
        raise AssertionError("a line is an event")
    return end


def _last_line_end(file: IO[bytes], size: int) -> int:
    """Where the last whole line of the first `size` bytes ends; 0 if there is none."""
    while size > 0:
        start = max(0, size - _BLOCK)
        file.seek(start)
        found = file.read(size - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        size = start
    return 0


def verify_archives(
    files: Sequence[str], anchors: Iterable[tuple[int, bytes]]
) -> AuditVerification:
    """Verifies files, each by itself and as the continuation of the one before it. Raises `Failure`
    if a file cannot be read, or there are no events."""
    first = 0
    end: ChainEnd | None = None
    noted = dict(anchors)
    for name in files:
        for number, line in enumerate(_lines(name), start=1):
            before = end
            try:
                end = follow_archive(end, [line])
            except ArchiveBroken as error:
                return _verified(first, before, f"{name}, line {number}: {error}")
            if end is None:
                raise AssertionError("a line is an event")
            first = first or end.count
            if noted.pop(end.count, end.hash) != end.hash:
                return _verified(first, before, f"event {end.count} differs from the anchor")
    if end is None:
        raise Failure("there are no events in these files", ExitCode.WRONG_INPUT)
    problem = f"event {min(noted)} of an anchor is not in these files" if noted else ""
    return _verified(first, end, problem)


def _verified(first: int, end: ChainEnd | None, problem: str) -> AuditVerification:
    """How far archives hold that begin with an event and hold up to another one."""
    from keyfence.results import AuditVerification

    return AuditVerification(
        sequence=end.count if end else 0,
        hash=end.hash if end else b"",
        complete=not problem,
        problem=problem,
        removed_sequence=max(first - 1, 0),
    )


def _lines(name: str) -> Iterator[str]:
    with failing(ExitCode.WRONG_INPUT, OSError, about=name), Path(name).open("rb") as file:
        while line := file.readline(_LONGEST_LINE):
            yield line.decode(errors="replace")
