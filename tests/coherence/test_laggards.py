"""I8: how long a holder can delay a mutation, once and in all, however it behaves."""

from __future__ import annotations

import math

import pytest

from keyfence_server.coherence.grantor import Grantor, HolderRecord
from keyfence_server.coherence.terms import LeaseTerms

TERMS = LeaseTerms(length=2.0, drift=0.0, slack=0.0)
PATIENCE = TERMS.patience(is_nested=False)


class Bench:
    """A grantor, and time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.head = 5
        self.grantor = Grantor(TERMS)
        self.grantor.advance(5, self.now)

    def join(self, name: str = "a", credential: str = "key_a") -> HolderRecord:
        return self.grantor.join(name, credential)

    def push(self) -> int:
        self.head += 1
        self.grantor.advance(self.head, self.now)
        return self.head

    def renew(self, holder: HolderRecord) -> bool:
        """As the hub does. Says whether a lease was granted."""
        may = self.grantor.may_renew(holder, self.now)
        return self.grantor.renew(holder, self.now, math.inf if may else 0.0).ttl > 0

    def acknowledge(self, holder: HolderRecord) -> None:
        self.grantor.acknowledge(holder, self.head, self.now)

    def allowed(self, credential: str = "key_a") -> bool:
        return not self.grantor.seconds_until_allowed(credential, self.now)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_renewals_do_not_prolong_what_a_holder_owes(bench: Bench) -> None:
    """It cannot use a lease under a newer head without having applied everything up to there."""
    holder = bench.join()
    bench.renew(holder)
    revision = bench.push()
    by = bench.grantor.safe_from(revision)
    assert by == bench.now + TERMS.wait
    for _ in range(3):
        bench.now += 0.6
        assert bench.renew(holder)
        assert bench.grantor.safe_from(revision) == by
    assert bench.grantor.safe_revision(bench.now) == revision - 1
    assert bench.grantor.safe_revision(by) == revision


def test_each_mutation_waits_w_at_most_while_a_holder_renews_and_never_acknowledges(
    bench: Bench,
) -> None:
    holder = bench.join()
    for _ in range(20):
        bench.renew(holder)
        revision = bench.push()
        assert bench.grantor.safe_from(revision) <= bench.now + TERMS.wait
        bench.now += 0.3


def test_many_heads_are_remembered_within_bounds_and_never_too_short(bench: Bench) -> None:
    holder = bench.join()
    owed = {}
    for _ in range(100):
        bench.renew(holder)
        owed[bench.push()] = bench.now + TERMS.wait
        bench.now += 0.01
    assert len(holder.grants) <= 16
    assert all(bench.grantor.safe_from(revision) >= by for revision, by in owed.items())
    assert bench.grantor.safe_from(bench.head) <= bench.now + TERMS.wait


def test_a_holder_that_leaves_a_revision_unacknowledged_gets_no_lease(bench: Bench) -> None:
    holder = bench.join()
    bench.renew(holder)
    bench.push()
    bench.now += PATIENCE
    assert bench.renew(holder)
    bench.now += 0.01
    assert not bench.renew(holder)
    bench.acknowledge(holder)
    assert bench.renew(holder)


def test_the_first_unacknowledged_revision_counts_and_not_the_last(bench: Bench) -> None:
    holder = bench.join()
    bench.renew(holder)
    for _ in range(9):
        bench.push()
        bench.now += PATIENCE / 8
        # It acknowledges, and is always one behind.
        bench.grantor.acknowledge(holder, bench.head - 1, bench.now)
    assert bench.renew(holder)
    bench.now += PATIENCE
    assert not bench.renew(holder)


def test_a_holder_that_comes_back_for_more_delays_is_refused_with_its_credential(
    bench: Bench,
) -> None:
    """Else each new stream would cost every mutation as much again."""
    spent = 0.0
    for number in range(100):
        holder = bench.join(str(number))
        while bench.renew(holder):
            bench.push()
            bench.now += 0.6
            spent += 0.6
        bench.grantor.leave(holder)
        if not bench.allowed():
            break
    allowance = TERMS.may_delay_by_renewing(is_nested=False)
    assert spent <= allowance.seconds + allowance.refill * spent + 2 * TERMS.wait
    assert not bench.allowed()
    assert bench.allowed("key_b")
    bench.now += bench.grantor.seconds_until_allowed("key_a", bench.now)
    assert bench.allowed()


def test_a_holder_that_falls_silent_at_each_mutation_is_refused_in_the_end(bench: Bench) -> None:
    allowance = TERMS.may_delay_by_silence()
    began = bench.now
    for number in range(100):
        holder = bench.join(str(number))
        if not bench.renew(holder):
            break
        bench.push()
        bench.now += 0.1
        bench.grantor.leave(holder)
        bench.now += TERMS.wait
        bench.grantor.safe_revision(bench.now)
    assert not bench.allowed()
    took = bench.now - began
    assert allowance.seconds < took < allowance.seconds * 1.5


def test_one_pause_of_a_good_holder_is_no_offence(bench: Bench) -> None:
    holder = bench.join()
    bench.renew(holder)
    bench.push()
    bench.renew(holder)
    bench.now += 60
    # It goes on: a renewal is sent before what has come is read.
    bench.renew(holder)
    bench.acknowledge(holder)
    assert bench.renew(holder)
    assert not bench.grantor._delays_by_renewing._accounts


def test_holders_that_die_together_count_once(bench: Bench) -> None:
    holders = [bench.join(str(number)) for number in range(100)]
    for holder in holders:
        bench.renew(holder)
    bench.push()
    for holder in holders:
        bench.grantor.leave(holder)
    bench.now += TERMS.wait
    bench.grantor.safe_revision(bench.now)
    account = bench.grantor._delays_by_silence._accounts["key_a"]
    assert account.left == pytest.approx(TERMS.may_delay_by_silence().seconds - TERMS.wait)


def test_a_sidecar_is_less_patient_than_the_server_that_it_hangs_on() -> None:
    """Else its own grantor would take it for the culprit."""
    assert TERMS.patience(is_nested=True) + TERMS.wait < TERMS.patience(is_nested=False)
