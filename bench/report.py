"""What a run measures: one table for each part, printed line by line and kept as JSON.

    {
      "command": "python -m bench --only checks --report checks.json",
      "date": "2026-11-30T09:30:00+00:00",
      "smoke": false,
      "machine": {"processor": "…", "cores": "2", …},
      "versions": {"keyfence-server": "0.1.0", "grpcio": "…", …},
      "seconds": 83,
      "tables": [
        {
          "name": "checks",
          "title": "Checks beside an empty call: 11 rounds in turn, 16 calls in flight",
          "measures": [
            {
              "group": "CheckScope",
              "label": "Keyfence ÷ an empty call, server CPU",
              "quantity": "ratio",
              "values": [1.14, 1.12, …],
              "median": 1.13, "lowest": 1.09, "highest": 1.2,
              "at_most": 1.15, "at_least": null
            }, …

`values` has a number for each round. It is null where a round could not be measured: processor
time is counted in hundredths of a second, so a short round may use none. `bench.charts` draws such
a report.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil

from testkit.postgres import installed_version

RATIO: Final = "ratio"
_ROOT: Final = Path(__file__).resolve().parent.parent
_NAME_WIDTH: Final = 88


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of a table.

    Attributes:
        group: what the line belongs to with its neighbours, such as a store or a language; may be
            empty.
        label: what was measured.
        quantity: the figure and its unit, such as `server CPU, µs a call`, or `RATIO`.
        values: of each round; NaN where it could not be measured.
        at_most: the goal for the median; None for no such goal.
        at_least: likewise.
    """

    group: str
    label: str
    quantity: str
    values: tuple[float, ...]
    at_most: float | None = None
    at_least: float | None = None

    @property
    def name(self) -> str:
        """The group, the label and the quantity."""
        prefix = f"{self.group}: " if self.group else ""
        suffix = "" if self.quantity == RATIO else f", {self.quantity}"
        return f"{prefix}{self.label}{suffix}"

    @property
    def median(self) -> float:
        """Of the rounds that were measured; NaN if none was."""
        return statistics.median(self._measured())

    @property
    def lowest(self) -> float:
        """The lowest round."""
        return min(self._measured())

    @property
    def highest(self) -> float:
        """The highest round."""
        return max(self._measured())

    @property
    def goal(self) -> str:
        """The goal in signs; empty for none."""
        if self.at_most is not None:
            return f"≤ {self.at_most:,g}"
        return "" if self.at_least is None else f"≥ {self.at_least:,g}"

    @property
    def meets_goal(self) -> bool:
        """Whether the median meets the goal, if there is one."""
        return (self.at_most is None or self.median <= self.at_most) and (
            self.at_least is None or self.median >= self.at_least
        )

    def _measured(self) -> list[float]:
        return [one for one in self.values if not math.isnan(one)] or [math.nan]

    def as_document(self) -> dict[str, Any]:
        """The line, for JSON."""
        return {
            "group": self.group,
            "label": self.label,
            "quantity": self.quantity,
            "values": [_json_number(one) for one in self.values],
            "median": _json_number(self.median),
            "lowest": _json_number(self.lowest),
            "highest": _json_number(self.highest),
            "at_most": self.at_most,
            "at_least": self.at_least,
        }

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Measure:
        """The line that `as_document` gave. Raises `KeyError` or `TypeError` if it is none."""
        return cls(
            document["group"],
            document["label"],
            document["quantity"],
            tuple(math.nan if one is None else float(one) for one in document["values"]),
            document["at_most"],
            document["at_least"],
        )


@dataclass(slots=True)
class Table:
    """What one part of a run measures.

    Attributes:
        name: a word; the names of charts begin with it.
        title: what was compared, in how many rounds.
    """

    name: str
    title: str
    measures: list[Measure] = field(default_factory=list)

    def add(
        self,
        label: str,
        quantity: str,
        values: Sequence[float],
        *,
        group: str = "",
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None:
        """Keeps a line, and prints it. The arguments are those of `Measure`."""
        line = Measure(group, label, quantity, tuple(values), at_most, at_least)
        self.measures.append(line)
        figures = "".join(f"{shown(one):>11}" for one in (line.median, line.lowest, line.highest))
        print(f"{line.name:{_NAME_WIDTH}}{figures}{line.goal:>9}".rstrip(), flush=True)

    def compare(
        self,
        quantity: str,
        compared: Mapping[str, Sequence[float]],
        *,
        ratio: str,
        group: str = "",
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None:
        """Adds a line for each of two things that were measured in turn, and one for their ratio.

        Args:
            compared: the values of both by their labels: first what is divided by the second.
            ratio: the label of the ratio.
            at_most: the goal for the ratio.
            at_least: likewise.
        """
        for label, values in compared.items():
            self.add(label, quantity, values, group=group)
        ours, other = compared.values()
        self.add(ratio, RATIO, ratios(ours, other), group=group, at_most=at_most, at_least=at_least)


class Report:
    """A run of some parts.

    Attributes:
        versions: of what was measured. A part adds those of the programs that it alone runs.
    """

    def __init__(self, command: str, *, smoke: bool) -> None:
        self._command = command
        self._smoke = smoke
        self._date = datetime.now(UTC)
        self._began = time.perf_counter()
        self._machine = _machine()
        self.versions = _versions()
        self._tables: list[Table] = []

    def print_head(self) -> None:
        """Prints the command, the date, the machine and the versions."""
        print(f"{self._command}\n{self._date:%Y-%m-%d %H:%M} UTC")
        for facts in (self._machine, self.versions):
            print(", ".join(f"{name} {value}" for name, value in facts.items()))
        if self._smoke:
            print("A smoke run: the numbers mean nothing.")

    def table(self, name: str, title: str) -> Table:
        """Begins a table, and prints its head."""
        made = Table(name, title)
        self._tables.append(made)
        columns = "".join(f"{one:>11}" for one in ("median", "lowest", "highest"))
        print(f"\n{title}\n{'':{_NAME_WIDTH}}{columns}{'goal':>9}", flush=True)
        return made

    def write(self, path: Path) -> None:
        """Writes what was measured so far. Raises `OSError` if it cannot."""
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "command": self._command,
            "date": self._date.isoformat(timespec="seconds"),
            "smoke": self._smoke,
            "machine": self._machine,
            "versions": self.versions,
            "seconds": round(time.perf_counter() - self._began),
            "tables": [
                {
                    "name": table.name,
                    "title": table.title,
                    "measures": [line.as_document() for line in table.measures],
                }
                for table in self._tables
            ],
        }
        text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
        path.write_text(f"{text}\n", encoding="utf-8")


def ratios(ours: Sequence[float], other: Sequence[float]) -> list[float]:
    """One number for each round: NaN where what we divide by is 0."""
    return [a / b if b else math.nan for a, b in zip(ours, other, strict=True)]


def p99(values: Sequence[float]) -> float:
    """The value that 99 of 100 do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


def shown(value: float) -> str:
    """A figure as people read it."""
    limits = ((1_000, 0), (100, 1), (1, 2))
    decimals = next((count for limit, count in limits if abs(value) >= limit), 3)
    return f"{value:,.{decimals}f}"


def _json_number(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.6g}")


def _machine() -> dict[str, str]:
    processor = platform.processor() or platform.machine()
    if (described := Path("/proc/cpuinfo")).is_file():
        for line in described.read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    return {
        "processor": processor,
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
    }


def _versions() -> dict[str, str]:
    return {
        "keyfence-server": version("keyfence-server"),
        **_commit(),
        "Python": platform.python_version(),
        "grpcio": version("grpcio"),
        "SQLAlchemy": version("sqlalchemy"),
        "SQLite": sqlite3.sqlite_version,
        "PostgreSQL": installed_version(),
    }


def _commit() -> dict[str, str]:
    """The commit of the clone, if this is one. `dirty` says that files have changed since."""
    if shutil.which("git") is None:
        return {}
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {"commit": asked.stdout.strip()} if asked.returncode == 0 else {}
