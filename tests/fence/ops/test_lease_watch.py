"""Health follows the lease, with patience both ways."""

from __future__ import annotations

import structlog

from keyfence_server.coherence.terms import LeaseTerms
from keyfence_server.lease_watch import LeaseWatch

TERMS = LeaseTerms(length=3.0)


class Stage:
    """A lease and a clock that the test moves, and what health was told."""

    def __init__(self) -> None:
        self.time = 100.0
        self.live = False
        self.may_be_stale = False
        self.stale_answers = 0
        self.is_fit = True
        self.said: list[bool] = []
        self.said_of_lease: list[bool] = []
        self.watch = LeaseWatch(
            is_live=lambda: self.live,
            may_be_stale=lambda: self.may_be_stale,
            stale_answers=lambda: self.stale_answers,
            is_fit=lambda: self.is_fit,
            set_serving=self.said.append,
            set_lease=self.said_of_lease.append,
            terms=TERMS,
            clock=self,
        )

    def now(self) -> float:
        return self.time

    async def sleep_until(self, when: float) -> None:
        self.time = when

    def pass_time(self, seconds: float, *, live: bool) -> None:
        self.live = live
        self.watch.look()
        self.time += seconds
        self.watch.look()


def test_the_first_lease_counts_at_once() -> None:
    stage = Stage()
    stage.pass_time(50, live=False)
    assert stage.said == []
    stage.pass_time(0, live=True)
    assert stage.said == [True]
    assert stage.watch.losses == 0


def test_health_does_not_flap_with_a_lease_that_is_late() -> None:
    """Every client would otherwise be sent elsewhere, where the same renewal is late."""
    stage = Stage()
    stage.pass_time(0, live=True)
    for _ in range(5):
        stage.pass_time(2.9, live=False)
        stage.pass_time(0.5, live=True)
    assert stage.said == [True]
    assert stage.watch.losses == 5
    assert 14 < stage.watch.seconds_without < 15


def test_health_tells_of_a_lease_that_stays_away_and_of_one_that_is_back() -> None:
    stage = Stage()
    stage.pass_time(0, live=True)
    stage.pass_time(3.0, live=False)
    assert stage.said == [True, False]
    stage.pass_time(0.9, live=True)
    assert stage.said == [True, False]
    stage.pass_time(0.1, live=True)
    assert stage.said == [True, False, True]


def test_a_server_that_stops_is_not_said_to_serve_again() -> None:
    stage = Stage()
    stage.pass_time(0, live=True)
    stage.watch.end()
    stage.pass_time(10, live=False)
    stage.pass_time(10, live=True)
    assert stage.said == [True]


def test_a_process_that_may_answer_without_a_lease_serves_and_says_that_it_has_none() -> None:
    """Else load balancers would take away the answers that were asked for."""
    stage = Stage()
    stage.pass_time(0, live=True)
    stage.may_be_stale = True
    with structlog.testing.capture_logs() as log:
        for _ in range(5):
            stage.pass_time(1, live=False)
        for _ in range(15):
            stage.stale_answers += 10
            stage.pass_time(1, live=False)
        assert stage.said == [True]
        assert stage.said_of_lease == [True, False]
        stage.may_be_stale = False
        stage.pass_time(3.0, live=False)
        assert stage.said == [True, False]
    errors = [line["event"] for line in log if line["log_level"] == "error"]
    # That it may happen, at once; that it does, when it does, and ten seconds later.
    assert errors == ["lease_lost", "stale_answers", "stale_answers"]


def test_health_says_that_a_store_that_cannot_be_written_does_not_serve() -> None:
    """As when its disk is full: a process that has it to itself has no lease to lose."""
    stage = Stage()
    stage.pass_time(0, live=True)
    stage.is_fit = False
    stage.pass_time(50, live=True)
    assert stage.said == [True, False]
    stage.is_fit = True
    stage.pass_time(50, live=True)
    assert stage.said == [True, False, True]
