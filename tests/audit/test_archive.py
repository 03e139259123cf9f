"""Archives of the audit log: verified by themselves, and one as the continuation of another."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from keyfence_server.application.audit_archive import (
    ArchiveBroken,
    ExportedEvent,
    follow_archive,
    line_of,
)
from keyfence_server.application.audit_chain import BEFORE_THE_FIRST, chained, text_of
from keyfence_server.application.ports import ChainEnd
from support.builders import make_event


def an_archive(length: int) -> list[str]:
    details = {"x": 1.5, "é": [True, None]}
    events = [make_event(f"key_{n}", details={**details, "n": n}) for n in range(length)]
    lines = []
    previous = BEFORE_THE_FIRST.hash
    for one in chained(BEFORE_THE_FIRST, [(None, event) for event in events]):
        exported = ExportedEvent(text_of(one.sequence, one.revision, one.event), one.hash)
        lines.append(line_of(previous, exported))
        previous = one.hash
    return lines


def end_of(lines: list[str]) -> ChainEnd:
    end = follow_archive(None, lines)
    assert end is not None
    return end


def test_an_archive_holds_by_itself_and_as_a_continuation() -> None:
    lines = an_archive(5)
    whole = end_of(lines)
    assert whole.count == 5
    first, second = lines[:3], lines[3:]
    assert end_of(second) == whole
    assert follow_archive(end_of(first), second) == whole
    assert follow_archive(whole, []) == whole


def test_a_part_of_another_archive_is_no_continuation() -> None:
    first = end_of(an_archive(3))
    with pytest.raises(ArchiveBroken, match="event 4 does not continue the event before"):
        follow_archive(first, an_archive(5)[3:])
    with pytest.raises(ArchiveBroken, match="event 4 was expected, and this is 5"):
        follow_archive(first, an_archive(5)[4:])


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    def edit(line: str) -> str:
        fields = json.loads(line)
        change(fields)
        return json.dumps(fields)

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        edited(lambda one: one["event"].update(subject="other")),
        edited(lambda one: one["event"].update(sequence=1)),
        edited(lambda one: one["event"].update(sequence=True)),
        edited(lambda one: one["event"].pop("details")),
        edited(lambda one: one.update(hash="00" * 32)),
        edited(lambda one: one.update(hash="00")),
        edited(lambda one: one.update(previous_hash="00" * 32)),
        edited(lambda one: one.update(more=1)),
        edited(lambda one: one.update(event=[])),
        edited(lambda one: one.pop("hash")),
        lambda line: line[:-2],
        lambda _: "[]",
        lambda _: "",
    ],
)
def test_an_edit_shows_in_its_line(edit: Callable[[str], str]) -> None:
    lines = an_archive(4)
    lines[2] = edit(lines[2])
    with pytest.raises(ArchiveBroken) as caught:
        follow_archive(None, lines)
    assert caught.value.line == 3


def test_the_first_event_has_nothing_before_it() -> None:
    lines = an_archive(1)
    fields = json.loads(lines[0])
    fields["previous_hash"] = "11" * 32
    with pytest.raises(ArchiveBroken):
        follow_archive(None, [json.dumps(fields)])


def test_blanks_and_the_order_of_names_do_not_matter() -> None:
    lines = [json.dumps(json.loads(line), indent=None, sort_keys=True) for line in an_archive(3)]
    assert end_of(lines).count == 3
