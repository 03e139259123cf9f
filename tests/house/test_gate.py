"""The gate says which part failed, and lets nothing be skipped unseen."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Final

import pytest

from support.deaths import Deaths
from tools import gate
from tools.gate import EVERY_PART, Outcome, Part, conclude, run_all, run_gate

ROOT: Final = Path(__file__).parents[2]


def part(name: str, script: str, cores: int = 1) -> Part:
    return Part(name, ("bash", "-c", script), cores)


def outcomes(parts: list[Part], logs: Path, *, in_ci: bool = False) -> list[Outcome]:
    return [verdict.outcome for verdict in run_all(parts, logs, in_ci=in_ci)]


def test_a_part_that_fails_stops_no_other_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [part("good", "echo fine"), part("bad", "echo broken; exit 3"), part("last", "true")]
    verdicts = run_all(parts, tmp_path, in_ci=False)
    assert conclude(verdicts) == 1
    assert [one.outcome for one in verdicts] == [Outcome.OK, Outcome.FAILED, Outcome.OK]
    said = capsys.readouterr().out
    assert "FAILED: bad" in said.splitlines()
    assert "broken" in said
    assert "fine" in said


def test_a_part_that_a_signal_ends_has_failed(tmp_path: Path, deaths: Deaths) -> None:
    assert outcomes([part("bad", "kill -9 $$")], tmp_path) == [Outcome.FAILED]
    assert len(deaths.take()) == 1


@pytest.mark.parametrize("said", ["SKIPPED: there is no java.", "SKIPPED [1] tests/x.py:3: no y"])
def test_what_is_skipped_is_shown_to_a_user_and_fails_in_ci(
    tmp_path: Path, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [part("model", f"echo {shlex.quote(said)}")]
    assert conclude(run_all(parts, tmp_path, in_ci=False)) == 0
    assert f"    {said}" in capsys.readouterr().out
    assert conclude(run_all(parts, tmp_path, in_ci=True)) == 1


def test_parts_run_side_by_side_and_one_that_uses_every_core_runs_alone(tmp_path: Path) -> None:
    """Each waits for the other's file: neither would end if they ran one after the other."""
    meet = "touch {mine}; until [ -e {other} ]; do sleep 0.01; done"
    left, right, seen = (tmp_path / name for name in ("left", "right", "seen"))
    parts = [
        part("one", meet.format(mine=left, other=right) + f"; sleep 0.1; touch {seen}"),
        part("two", meet.format(mine=right, other=left)),
        part("whole", f"[ -e {seen} ]", cores=2),
    ]
    assert outcomes(parts, tmp_path) == [Outcome.OK] * 3


def test_the_background_runs_beside_the_others_at_the_lowest_priority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither would end if one of them ran after the other."""
    begun, met = tmp_path / "begun", tmp_path / "met"
    meet = "touch {mine}; until [ -e {other} ]; do sleep 0.01; done; nice"
    background = meet.format(mine=met, other=begun)
    monkeypatch.setattr(gate, "BACKGROUND", Part("model", ("bash", "-c", background), niceness=19))
    monkeypatch.setattr(gate, "PREPARATIONS", (part("install", "true"),))
    script = meet.format(mine=begun, other=met)
    monkeypatch.setattr(gate, "PARTS", (part("test", script, cores=2),))
    verdicts = run_gate(tmp_path, in_ci=False)
    assert [one.outcome for one in verdicts] == [Outcome.OK] * 3
    assert verdicts[2].last_lines(1) == "19"


def test_without_an_installation_only_the_background_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "BACKGROUND", part("model", "true"))
    monkeypatch.setattr(gate, "PREPARATIONS", (part("install", "false"),))
    monkeypatch.setattr(gate, "PARTS", (part("test", "true"),))
    verdicts = run_gate(tmp_path, in_ci=False)
    assert [one.part.name for one in verdicts] == ["install", "model"]


def test_the_time_of_a_part_is_that_of_all_its_processes(tmp_path: Path) -> None:
    busy = f"{sys.executable} -c 'import time\nwhile time.process_time() < 0.3: pass'"
    (verdict,) = run_all([part("busy", f"{busy}; true")], tmp_path, in_ci=False)
    assert verdict.cpu_seconds >= 0.3


def test_every_part_is_a_target_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for one in EVERY_PART:
        program, *words = one.command
        targets = [word for word in words if "=" not in word and not word.startswith("-")]
        assert targets
        assert program == "make"
        assert all(f"\n{target}:" in makefile for target in targets), one.name
