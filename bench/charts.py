"""Draws the reports of `python -m bench --report FILE` as SVG.

    python -m bench.charts REPORT... --into docs/charts [--only CHART ...]

There is a chart for each table and quantity of a report. It is named after both, such as
`isolation-ratio` or `mutations-calls-a-second`, and has a row for each measure: a dot at the median
of the rounds, a line from the lowest to the highest, and a bar at the goal. The figures stand
beside each row and in the description, so that nothing is said by a colour or a position alone.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import textwrap
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from bench.report import Measure, shown

_MARGIN: Final = 16
_CHARACTER: Final = 6.5
"""The width of a character of 12 pixels, about."""
_TITLE_CHARACTER: Final = 8.5
_PLOT: Final = 300
_FIGURES: Final = 300
_TITLE_LINE: Final = 18
_HEAD: Final = 40
_ROW: Final = 22
_FOOT: Final = 72
_MOST_TICKS: Final = 6
_LOGARITHMIC_FROM: Final = 10.0
"""How many times the lowest value the highest one must be."""
_STYLE: Final = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 14px; font-weight: 600 } .group { font-weight: 600 } .faint { fill: #59636e }
.ground { fill: #ffffff } .grid { stroke: #d1d9e0 } .range { stroke: #0969da; stroke-width: 2 }
.median { fill: #0969da } .goal { stroke: #bc4c00; stroke-width: 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .faint { fill: #9198a1 } .ground { fill: #0d1117 }
  .grid { stroke: #3d444d } .range { stroke: #58a6ff } .median { fill: #58a6ff }
  .goal { stroke: #f0883e }
}
"""


@dataclass(frozen=True, slots=True)
class Chart:
    """What one drawing shows.

    Attributes:
        name: of the file, without its suffix.
        origin: when and on which machine the figures were measured.
        measures: all of one quantity.
    """

    name: str
    title: str
    origin: str
    quantity: str
    measures: tuple[Measure, ...]


def charts_of(report: dict[str, Any]) -> Iterator[Chart]:
    """The charts of a report. Raises `KeyError` or `TypeError` if it is none."""
    machine, versions = report["machine"], report["versions"]
    origin = (
        f"{report['date'][:10]}, {machine['cores']} × {machine['processor']}, "
        f"keyfence-server {versions['keyfence-server']}"
    )
    if report["smoke"]:
        origin += "; a smoke run: the numbers mean nothing"
    for table in report["tables"]:
        measures = [Measure.from_document(line) for line in table["measures"]]
        for quantity in dict.fromkeys(line.quantity for line in measures):
            yield Chart(
                _file_name(f"{table['name']} {quantity}"),
                table["title"],
                origin,
                quantity,
                tuple(line for line in measures if line.quantity == quantity),
            )


def draw(chart: Chart) -> str:
    """The chart as SVG."""
    left = round(_MARGIN * 3 + _CHARACTER * max(len(line.label) for line in chart.measures))
    rows = [
        (group, list(lines)) for group, lines in groupby(chart.measures, lambda line: line.group)
    ]
    width = left + _PLOT + _FIGURES
    title = textwrap.wrap(chart.title, int((width - 2 * _MARGIN) / _TITLE_CHARACTER))
    top = _HEAD + _TITLE_LINE * len(title)
    height = top + _FOOT + _ROW * (len(chart.measures) + sum(bool(group) for group, _ in rows))
    svg = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {width} {height}",
            "role": "img",
            "aria-labelledby": "title description",
        },
    )
    _add(svg, "title", chart.title, id="title")
    _add(svg, "desc", _description(chart), id="description")
    _add(svg, "style", _STYLE)
    _add(svg, "rect", width=width, height=height, class_="ground")
    for number, words in enumerate(title):
        _add(svg, "text", words, x=_MARGIN, y=24 + _TITLE_LINE * number, class_="title")
    _add(svg, "text", chart.origin, x=_MARGIN, y=top - 16, class_="faint")
    axis = _Axis.of(chart.measures)
    bottom = height - _FOOT
    _draw_axis(svg, axis, chart.quantity, left, top, bottom)
    y = top
    for group, lines in rows:
        if group:
            _add(svg, "text", group, x=_MARGIN, y=y + 15, class_="group")
            y += _ROW
        for line in lines:
            _draw_row(svg, axis, line, left, y + _ROW // 2)
            y += _ROW
    _draw_legend(svg, left, height - 14)
    ET.indent(svg, "")
    return ET.tostring(svg, encoding="unicode") + "\n"


@dataclass(frozen=True, slots=True)
class _Axis:
    """Where a value is on the plot."""

    low: float
    high: float
    ticks: tuple[float, ...]
    is_logarithmic: bool

    @classmethod
    def of(cls, measures: Sequence[Measure]) -> _Axis:
        """An axis with room for these. It begins at 0, unless it is logarithmic."""
        goals = [goal for line in measures for goal in (line.at_most, line.at_least)]
        rounds = [one for line in measures for one in (line.lowest, line.highest)]
        values = [one for one in (*goals, *rounds) if one is not None and not math.isnan(one)]
        low, high = min(values, default=0.0), max(values, default=0.0)
        if low > 0 and high / low > _LOGARITHMIC_FROM:
            powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            for steps in ((1, 2, 5), (1, 3), (1,)):
                ticks = [step * 10.0**power for power in powers for step in steps]
                first = max(tick for tick in ticks if tick <= low)
                last = min((tick for tick in ticks if tick >= high), default=ticks[-1])
                ticks = [tick for tick in ticks if first <= tick <= last]
                if len(ticks) <= _MOST_TICKS:
                    break
            return cls(first, last, tuple(ticks), is_logarithmic=True)
        low, high = min(low, 0.0), max(high, 0.0)
        step = _step((high - low) or 1.0)
        first_step, last_step = math.floor(low / step), max(math.ceil(high / step), 1)
        ticks = [number * step for number in range(first_step, last_step + 1)]
        return cls(ticks[0], ticks[-1], tuple(ticks), is_logarithmic=False)

    def at(self, value: float) -> float:
        """Pixels from the left of the plot."""
        if self.is_logarithmic:
            return _PLOT * math.log(value / self.low) / math.log(self.high / self.low)
        return _PLOT * (value - self.low) / (self.high - self.low)


def _step(span: float) -> float:
    """The distance of the ticks: a round number, such that there are few of them."""
    power = 10.0 ** math.floor(math.log10(span / _MOST_TICKS))
    return next(step * power for step in (1, 2, 5, 10) if span / (step * power) < _MOST_TICKS)


def _draw_axis(
    svg: ET.Element, axis: _Axis, quantity: str, left: int, top: int, bottom: int
) -> None:
    for tick in axis.ticks:
        x = left + axis.at(tick)
        _add(svg, "line", x1=x, x2=x, y1=top, y2=bottom, class_="grid")
        _add(svg, "text", f"{tick:,g}", x=x, y=bottom + 16, text_anchor="middle")
    title = f"{quantity} (logarithmic)" if axis.is_logarithmic else quantity
    _add(svg, "text", title, x=left + _PLOT / 2, y=bottom + 34, text_anchor="middle")


def _draw_row(svg: ET.Element, axis: _Axis, line: Measure, left: int, y: int) -> None:
    _add(svg, "text", line.label, x=_MARGIN * 2, y=y + 4)
    _add(svg, "text", _figures(line), x=left + _PLOT + _MARGIN, y=y + 4)
    for goal in (line.at_most, line.at_least):
        if goal is not None:
            x = left + axis.at(goal)
            _add(svg, "line", x1=x, x2=x, y1=y - 9, y2=y + 9, class_="goal")
    if math.isnan(line.median):
        return
    low, high = left + axis.at(line.lowest), left + axis.at(line.highest)
    _add(svg, "line", x1=low, x2=high, y1=y, y2=y, class_="range")
    for x in (low, high):
        _add(svg, "line", x1=x, x2=x, y1=y - 4, y2=y + 4, class_="range")
    _add(svg, "circle", cx=left + axis.at(line.median), cy=y, r=4, class_="median")


def _draw_legend(svg: ET.Element, left: int, y: int) -> None:
    _add(svg, "circle", cx=left + 4, cy=y - 4, r=4, class_="median")
    _add(svg, "text", "median", x=left + 14, y=y)
    _add(svg, "line", x1=left + 76, x2=left + 100, y1=y - 4, y2=y - 4, class_="range")
    for x in (left + 76, left + 100):
        _add(svg, "line", x1=x, x2=x, y1=y - 8, y2=y, class_="range")
    _add(svg, "text", "lowest to highest round", x=left + 108, y=y)
    _add(svg, "line", x1=left + 264, x2=left + 264, y1=y - 13, y2=y + 5, class_="goal")
    _add(svg, "text", "goal", x=left + 272, y=y)


def _description(chart: Chart) -> str:
    rows = (
        ": ".join(part for part in (line.group, line.label, _figures(line)) if part)
        for line in chart.measures
    )
    return f"{chart.quantity}, {chart.origin}. " + ". ".join(rows) + "."


def _figures(line: Measure) -> str:
    if math.isnan(line.median):
        return "not measured"
    text = shown(line.median)
    if len(line.values) > 1:
        text += f" ({shown(line.lowest)} to {shown(line.highest)})"
    if line.goal:
        text += f"; goal {line.goal}, {'met' if line.meets_goal else 'missed'}"
    return text


def _add(
    parent: ET.Element, tag: str, text: str | None = None, /, **attributes: str | float
) -> None:
    """Adds an element. `_` in an attribute's name becomes `-`, and goes at its end."""
    added = ET.SubElement(
        parent,
        tag,
        {
            name.rstrip("_").replace("_", "-"): value if isinstance(value, str) else f"{value:g}"
            for name, value in attributes.items()
        },
    )
    added.text = text


def _file_name(words: str) -> str:
    plain = words.lower().replace("µ", "u").replace("%", "percent")
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def main() -> None:
    """Writes the charts, and prints their names."""
    parser = argparse.ArgumentParser(prog="bench.charts", description=__doc__)
    parser.add_argument("reports", type=Path, nargs="+", metavar="REPORT")
    parser.add_argument("--into", type=Path, required=True, metavar="DIRECTORY")
    parser.add_argument("--only", action="append", metavar="CHART", help="this one; repeatable")
    asked = parser.parse_args()
    charts: dict[str, Chart] = {}
    for path in asked.reports:
        try:
            found = list(charts_of(json.loads(path.read_text(encoding="utf-8"))))
        except OSError as error:
            parser.error(f"cannot read the report: {error}")
        except (ValueError, KeyError, TypeError) as error:
            parser.error(f"{path} is no report of `python -m bench --report`: {error!r}")
        for chart in found:
            if chart.name in charts:
                parser.error(f"{path} has the chart {chart.name}, as an earlier report has")
            charts[chart.name] = chart
    names = asked.only or list(charts)
    if unknown := sorted(set(names) - set(charts)):
        parser.error(f"no report has {', '.join(unknown)}; the charts are {', '.join(charts)}")
    asked.into.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = asked.into / f"{name}.svg"
        path.write_text(draw(charts[name]), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
