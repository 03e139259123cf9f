"""Outages of the store: what is logged of them, and when they are over."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from structlog.testing import capture_logs

from keyfence_server.application.ports import StoreProblem, StoreUnavailable
from keyfence_server.telemetry.store_outages import StoreOutages


class Stage:
    """An outage on a clock of the test's own. The probe fails as often as the test says."""

    def __init__(self) -> None:
        self.time = 0.0
        self.outages = StoreOutages(self.now)

    def now(self) -> float:
        return self.time

    async def sleep_until(self, when: float) -> None:
        self.time = when
        await asyncio.sleep(0)

    def fail(self, problem: StoreProblem = StoreProblem.UNREACHABLE) -> None:
        self.outages.failed(StoreUnavailable("it is away", problem=problem))

    async def probe(self, outcomes: list[bool]) -> None:
        """Lets so many probes come by."""
        done = asyncio.Event()

        async def probe() -> None:
            if not outcomes:
                await asyncio.Event().wait()
            works = outcomes.pop(0)
            if not outcomes:
                done.set()
            if not works:
                raise StoreUnavailable("it is still away")

        watching = asyncio.create_task(self.outages.watch(probe, self))
        await done.wait()
        await asyncio.sleep(0)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


def test_an_outage_is_logged_once_and_then_once_a_minute() -> None:
    stage = Stage()
    with capture_logs() as log:
        for _ in range(1_250):
            stage.fail()
            stage.time += 0.125
    assert [line["event"] for line in log] == ["store_unavailable"] * 3
    assert [line["failures"] for line in log] == [1, 481, 961]


def test_a_cause_that_changes_is_logged() -> None:
    stage = Stage()
    with capture_logs() as log:
        for _ in range(5):
            stage.fail(StoreProblem.UNREACHABLE)
            stage.fail(StoreProblem.LOGIN_REFUSED)
    assert [line["problem"] for line in log] == ["unreachable", "login_refused"]


def test_only_what_an_operator_must_mend_makes_the_server_unready() -> None:
    for problem in StoreProblem:
        stage = Stage()
        stage.fail(problem)
        waits = problem in {StoreProblem.UNREACHABLE, StoreProblem.BUSY}
        assert stage.outages.is_fit is waits


async def test_an_outage_is_over_when_two_probes_in_a_row_succeed() -> None:
    """One is not enough: calls on connections that died fail for a moment longer."""
    stage = Stage()
    stage.fail(StoreProblem.DISK_FULL)
    with capture_logs() as log:
        await stage.probe([False, True])
        assert stage.outages.problem is not None
        stage.fail()
        await stage.probe([True])
        assert stage.outages.problem is not None
        await stage.probe([True])
    assert stage.outages.problem is None
    assert stage.outages.is_fit
    assert [line["event"] for line in log if line["event"] == "store_available"] == [
        "store_available"
    ]


def test_a_busy_store_is_no_outage() -> None:
    stage = Stage()
    with capture_logs() as log:
        for _ in range(250):
            stage.fail(StoreProblem.BUSY)
            stage.time += 0.125
    assert stage.outages.problem is None
    assert [line["event"] for line in log] == ["store_busy"] * 4
    assert sum(line["failures"] for line in log) == 241
