"""deploy/monitoring: every metric, label and page that it names is one that exists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from docs.pages import ROOT
from support.serving import read_metrics, start_for_test
from tools import dashboard

DIRECTORY = ROOT / "deploy" / "monitoring"
RULES = [
    rule
    for group in yaml.safe_load((DIRECTORY / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
_NAME = re.compile(r"\bkeyfence_[a-z_]+")
_SELECTOR = re.compile(r"(keyfence_[a-z_]+)\{([^}]*)\}")
_OF_PROMETHEUS = {"instance", "job", "le"}


def expressions() -> Iterator[str]:
    for rule in RULES:
        yield rule["expr"]
    for panel in dashboard.dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]


@pytest.fixture
async def exposed(tmp_path: Any) -> str:
    """The metrics of a server that has answered something."""
    served = await start_for_test(tmp_path / "data", metrics_listen="127.0.0.1:0")
    await served.client.call("WhoAmI")
    text = read_metrics(served)
    await served.client.channel.close()
    await served.server.stop()
    return text


async def test_every_metric_and_label_exists(exposed: str) -> None:
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", exposed, re.MULTILINE))
    names = {
        name + suffix
        for name, kind in types.items()
        for suffix in (("_bucket", "_count", "_sum") if kind == "histogram" else ("",))
    }
    used = {name for one in expressions() for name in _NAME.findall(one)}
    assert len(used) > 20
    assert used <= names
    labels = {
        name: set(re.findall(r'(\w+)="', text))
        for name, text in re.findall(r"^(keyfence_\w+)\{(.*)\} ", exposed, re.MULTILINE)
    }
    for one in expressions():
        for name, selector in _SELECTOR.findall(one):
            asked = set(re.findall(r"(\w+)\s*[=!]~?\"", selector))
            known = labels.get(name, set()) | _OF_PROMETHEUS | LABELS_OF_THE_EMPTY.get(name, set())
            assert asked <= known, one


LABELS_OF_THE_EMPTY = {
    # Served once there is something to count.
    "keyfence_verdicts_total": {"keyspace", "reason"},
    "keyfence_fence_seconds_count": {"of", "by"},
    "keyfence_fence_seconds_bucket": {"of", "by"},
}


def test_every_runbook_is_a_page_with_that_heading() -> None:
    for rule in RULES:
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        text = (ROOT / page).read_text()
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}
        assert not anchor or anchor in anchors, rule["alert"]


def test_an_alert_has_a_severity_and_a_summary() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"]


def test_the_dashboard_is_the_generated_one() -> None:
    written = json.loads((DIRECTORY / "dashboard.json").read_text())
    assert written == dashboard.dashboard()
    ids = [panel["id"] for panel in written["panels"]]
    assert len(set(ids)) == len(ids)


def test_prometheus_asks_the_servers_of_compose() -> None:
    config = yaml.safe_load((DIRECTORY / "prometheus.yaml").read_text())
    compose = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text())["services"]
    (job,) = config["scrape_configs"]
    for target in job["static_configs"][0]["targets"]:
        host, _, port = target.partition(":")
        assert compose[host]["environment"]["KEYFENCE_METRICS_LISTEN"].endswith(f":{port}")
    assert (DIRECTORY / config["rule_files"][0]).exists()
