"""The reports of benchmarks, and the charts that `python -m bench.charts` draws of them.

Tests import no benchmark, so both run as programs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
SVG: Final = "{http://www.w3.org/2000/svg}"
# Half of the rounds of the empty call took less than can be measured.
PROGRAM: Final = """
import math, pathlib, sys
from bench.report import RATIO, Report

report = Report("python -m bench --only scale", smoke=True)
report.print_head()
table = report.table("scale", "A title & more")
table.compare(
    "CPU, µs a call",
    {"hot": [2.6, 2.4, 2.2, 2.0], "empty": [2.0, 0.0, 2.0, 0.0]},
    ratio="hot ÷ empty",
    group="SQLite",
    at_most=1.15,
)
table.add("64 in flight ÷ 1", RATIO, [9.0, 12.5], at_least=8)
table.add("a & b < c", RATIO, [math.nan])
table.add("shrank", "memory, MiB", [-3.0, 1.0])
table.add("the same", "memory, MiB", [0.0])
table.add("none", "calls", [0.0], at_most=0)
report.write(pathlib.Path(sys.argv[1]))
"""


@dataclass(frozen=True)
class Run:
    printed: str
    path: Path
    report: dict[str, Any]

    @property
    def measures(self) -> dict[str, dict[str, Any]]:
        (table,) = self.report["tables"]
        return {line["label"]: line for line in table["measures"]}


def python(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("bench") / "new" / "report.json"
    ended = python("-c", PROGRAM, path)
    assert ended.returncode == 0, ended.stderr
    return Run(ended.stdout, path, json.loads(path.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def charts(run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ET.Element]:
    """The charts of the report by their names."""
    folder = tmp_path_factory.mktemp("charts") / "new"
    ended = python("-m", "bench.charts", run.path, "--into", folder)
    assert ended.returncode == 0, ended.stderr
    return {one.stem: ET.parse(one).getroot() for one in folder.iterdir()}


def texts(chart: ET.Element) -> list[str | None]:
    return [one.text for one in chart.iter(f"{SVG}text")]


def test_a_report_tells_what_was_run_where_and_when(run: Run) -> None:
    assert run.report["command"] == "python -m bench --only scale"
    assert run.report["date"].endswith("+00:00")
    assert run.report["smoke"] is True
    machine, versions = run.report["machine"], run.report["versions"]
    assert set(machine) == {"processor", "cores", "memory", "system"}
    assert {"keyfence-server", "Python", "grpcio", "SQLite", "PostgreSQL"} <= set(versions)
    head = run.printed.partition("\n\n")[0]
    assert run.report["command"] in head
    for facts in (machine, versions):
        assert ", ".join(f"{name} {value}" for name, value in facts.items()) in head


def test_a_report_has_every_round_and_a_line_is_printed_for_each_measure(run: Run) -> None:
    assert run.measures["hot"] == {
        "group": "SQLite",
        "label": "hot",
        "quantity": "CPU, µs a call",
        "values": [2.6, 2.4, 2.2, 2.0],
        "median": 2.3,
        "lowest": 2.0,
        "highest": 2.6,
        "at_most": None,
        "at_least": None,
    }
    (printed,) = [line for line in run.printed.splitlines() if "SQLite: hot, CPU" in line]
    assert printed.split()[-3:] == ["2.30", "2.00", "2.60"]


def test_a_ratio_has_no_value_where_its_divisor_is_none(run: Run) -> None:
    ratio = run.measures["hot ÷ empty"]
    assert ratio["values"] == [1.3, None, 1.1, None]
    assert ratio["median"] == 1.2
    assert ratio["at_most"] == 1.15
    assert run.measures["a & b < c"]["median"] is None


def test_there_is_a_chart_for_each_quantity(charts: dict[str, ET.Element]) -> None:
    assert set(charts) == {
        *("scale-ratio", "scale-cpu-us-a-call", "scale-memory-mib", "scale-calls"),
    }


def test_the_charts_show_each_measure_in_words(run: Run, charts: dict[str, ET.Element]) -> None:
    for label, line in run.measures.items():
        (chart,) = [one for one in charts.values() if label in texts(one)]
        assert any(line["quantity"] in (text or "") for text in texts(chart))
        assert label in (chart.findtext(f"{SVG}desc") or "")
        assert chart.findtext(f"{SVG}title") == "A title & more"
        assert chart.get("role") == "img"


def test_a_chart_tells_the_median_the_rounds_and_the_goal(charts: dict[str, ET.Element]) -> None:
    shown = texts(charts["scale-ratio"])
    assert "1.20 (1.10 to 1.30); goal ≤ 1.15, missed" in shown
    assert "10.75 (9.00 to 12.50); goal ≥ 8, met" in shown
    assert "not measured" in shown
    assert "0.000; goal ≤ 0, met" in texts(charts["scale-calls"])
    assert any("the numbers mean nothing" in (text or "") for text in shown)


def test_what_is_drawn_lies_within_the_chart(charts: dict[str, ET.Element]) -> None:
    for chart in charts.values():
        width, height = map(float, chart.attrib["viewBox"].split()[2:])
        for one in chart.iter():
            assert all(0 <= float(one.get(name, "0")) <= width for name in ("x", "x1", "x2", "cx"))
            assert all(0 <= float(one.get(name, "0")) <= height for name in ("y", "y1", "y2", "cy"))


def test_a_chart_that_no_report_has_is_refused(run: Run, tmp_path: Path) -> None:
    ended = python("-m", "bench.charts", run.path, "--into", tmp_path, "--only", "scale-x")
    assert ended.returncode == 2
    assert "no report has scale-x; the charts are scale-cpu-us-a-call, " in ended.stderr


def test_a_file_that_is_no_report_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("[]", encoding="utf-8")
    ended = python("-m", "bench.charts", other, "--into", tmp_path)
    assert ended.returncode == 2
    assert "other.json is no report of `python -m bench --report`" in ended.stderr
