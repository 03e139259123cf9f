"""Why a sidecar follows no server: what is logged of it."""

from __future__ import annotations

from structlog.testing import capture_logs

from keyfence_server.telemetry.upstream import UpstreamOutages


def test_a_cause_is_logged_at_once_and_then_once_a_minute_with_a_count() -> None:
    time = [0.0]
    outages = UpstreamOutages(lambda: time[0])
    with capture_logs() as log:
        for _ in range(50):
            outages.broken("a:1", "a:1 cannot be reached", "check that it runs")
            time[0] += 2.5
    assert [line["event"] for line in log] == ["upstream_out_of_step"] * 3
    assert [line["failures"] for line in log] == [1, 24, 24]


def test_another_cause_is_logged_at_once() -> None:
    outages = UpstreamOutages(lambda: 0.0)
    with capture_logs() as log:
        for target in ("a:1", "b:1", "a:1", "b:1"):
            outages.broken(target, "it cannot be reached", "")
        outages.broken("a:1", "it cannot be reached", "renew its certificate")
    assert [(line["target"], line.get("advice")) for line in log] == [
        ("a:1", None),
        ("b:1", None),
        ("a:1", "renew its certificate"),
    ]
