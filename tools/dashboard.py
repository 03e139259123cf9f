"""Writes the Grafana dashboard in deploy/monitoring, from the list of its panels here.

Run as `python -m tools.dashboard`, with `--check` to compare only.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).parents[1] / "deploy" / "monitoring" / "dashboard.json"

_SOURCE: Final = {"type": "prometheus", "uid": "${source}"}
_INSTANCES: Final = 'instance=~"$instance"'

# Each row is a title and its panels: a title, a unit of Grafana's, and queries by their legends.
ROWS: Final[list[tuple[str, list[tuple[str, str, dict[str, str]]]]]] = [
    (
        "Now",
        [
            ("Serving", "short", {"{{instance}}": "keyfence_serving{%}"}),
            ("Lease", "s", {"{{instance}}": "keyfence_lease_left_seconds{%}"}),
            (
                "Database problem",
                "short",
                {"{{problem}}": "max by (problem) (keyfence_store_problem{%})"},
            ),
            ("Clock skew", "s", {"{{instance}}": "keyfence_clock_skew_seconds{%}"}),
            (
                "Certificate: time left",
                "s",
                {"{{instance}}": "keyfence_certificate_expire_timestamp_seconds{%} - time()"},
            ),
            ("Version", "short", {"{{version}}": "count by (version) (keyfence_build_info{%})"}),
        ],
    ),
    (
        "Checks",
        [
            (
                "Verdicts a second",
                "reqps",
                {
                    "{{reason}}": "sum by (reason) "
                    "(rate(keyfence_verdicts_total{%}[$__rate_interval]))"
                },
            ),
            (
                "Duration of calls, 99th percentile",
                "s",
                {
                    "{{method}}": "histogram_quantile(0.99, sum by (method, le) "
                    "(rate(keyfence_rpc_seconds_bucket{%}[$__rate_interval])))"
                },
            ),
            (
                "Calls that failed",
                "reqps",
                {
                    "{{code}}": "sum by (code) "
                    '(rate(keyfence_rpc_seconds_count{%,code!="OK"}[$__rate_interval]))'
                },
            ),
            (
                "Answers from memory",
                "percentunit",
                {
                    "{{instance}}": "rate(keyfence_cache_hits_total{%}[$__rate_interval]) / "
                    "(rate(keyfence_cache_hits_total{%}[$__rate_interval]) + "
                    "rate(keyfence_cache_misses_total{%}[$__rate_interval]))"
                },
            ),
        ],
    ),
    (
        "Changes",
        [
            (
                "Until a change holds everywhere, 99th percentile",
                "s",
                {
                    "{{by}}": "histogram_quantile(0.99, sum by (by, le) "
                    '(rate(keyfence_fence_seconds_bucket{%,of="mutation"}[$__rate_interval])))'
                },
            ),
            (
                "Changes under way",
                "short",
                {
                    "under way": "sum(keyfence_mutations_under_way{%})",
                    "waiting": "sum(keyfence_mutations_waiting{%})",
                },
            ),
            ("Holders", "short", {"{{instance}}": "keyfence_holders{%}"}),
            ("Revision", "short", {"{{instance}}": "keyfence_revision{%}"}),
        ],
    ),
    (
        "Database",
        [
            (
                "Duration, 99th percentile",
                "s",
                {
                    "{{operation}}": "histogram_quantile(0.99, sum by (operation, le) "
                    "(rate(keyfence_store_seconds_bucket{%}[$__rate_interval])))"
                },
            ),
            (
                "Failures a second",
                "ops",
                {"{{instance}}": "rate(keyfence_store_unavailable_total{%}[$__rate_interval])"},
            ),
            ("In use", "short", {"{{instance}}": "keyfence_store_in_use{%}"}),
            ("Not written yet", "short", {"{{instance}}": "keyfence_write_behind_notes{%}"}),
        ],
    ),
]
_WIDTH: Final = 24
_HEIGHT: Final = 7


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS:
        panels.append({"type": "row", "title": title, "gridPos": _place(0, y, _WIDTH, 1)})
        y += 1
        width = _WIDTH // min(len(row), 3)
        for index, (name, unit, queries) in enumerate(row):
            x = (index * width) % _WIDTH
            if index and not x:
                y += _HEIGHT
            panels.append(_panel(name, unit, queries, _place(x, y, width, _HEIGHT)))
        y += _HEIGHT
    for number, panel in enumerate(panels, 1):
        panel["id"] = number
    return {
        "title": "Keyfence",
        "uid": "keyfence",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_data_source(), _instances()]},
        "panels": panels,
    }


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(title: str, unit: str, queries: dict[str, str], place: dict[str, int]) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": title,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": unit, "min": None}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "expr": query.replace("%", _INSTANCES),
                "legendFormat": legend,
            }
            for index, (legend, query) in enumerate(queries.items())
        ],
    }


def _data_source() -> dict[str, Any]:
    return {"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}


def _instances() -> dict[str, Any]:
    return {
        "name": "instance",
        "type": "query",
        "datasource": _SOURCE,
        "query": "label_values(keyfence_build_info, instance)",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    }


def main() -> int:
    """Writes the file, or compares it. Returns the exit code."""
    text = json.dumps(dashboard(), indent=2) + "\n"
    if "--check" in sys.argv[1:]:
        if FILE.read_text(encoding="utf-8") == text:
            return 0
        print(f"{FILE} differs from tools/dashboard.py. Run: python -m tools.dashboard")
        return 1
    FILE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
