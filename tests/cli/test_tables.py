"""Tables fit the terminal: columns go, and ids and headings stay whole."""

from __future__ import annotations

import sys

import pytest
from rich.console import Console

from keyfence_server.cli import output

COLUMNS = ("KEY", "DISPLAY PREFIX", "STATE", "NAME", "GRANTED", "EXPIRES (UTC)")
KEY = "key_01jd2k7v9x4m8r5t6w3y1z0abc"
OTHER = "key_01jd2k7v9x4m8r5t6w3y1z0xyz"
ROW = (KEY, "kf_live_abcd1234…", "active", f"a name of {OTHER}", "vps:read, " * 9, "never")


def printed(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    def console() -> Console:
        return Console(file=sys.stdout, width=width, highlight=False, markup=False)

    monkeypatch.setattr(output, "console", console)
    output.print_table(COLUMNS, [ROW, ROW], unbroken=2)
    captured = capsys.readouterr()
    shown = [column for column in COLUMNS if column in captured.out.splitlines()[0]]
    gone = [column for column in COLUMNS if column not in shown]
    assert shown == list(COLUMNS[: len(shown)])
    assert all(column in captured.err for column in gone)
    return captured.out


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160, 400])
def test_a_table_is_as_wide_as_the_terminal_and_ids_are_whole(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(width, monkeypatch, capsys)
    # Not narrower than an id and the prefix beside it, which are there to be copied.
    least = len(KEY) + 2 + len(ROW[1])
    assert all(len(line) <= max(width, least) for line in text.splitlines())
    assert text.count(KEY) == 2
    assert text.count(OTHER) == (2 if "NAME" in text.splitlines()[0] else 0)


def test_a_wide_terminal_shows_everything_on_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(printed(400, monkeypatch, capsys).splitlines()) == 3


def test_a_terminal_of_eighty_columns_shows_the_state(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "STATE" in printed(80, monkeypatch, capsys)
