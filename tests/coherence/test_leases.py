"""The arithmetic of leases, on both sides, under clocks that drift apart."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfence.holder.lease import HolderLease
from keyfence_server.coherence.grantor import Grantor
from keyfence_server.coherence.terms import LeaseTerms

drifts = st.floats(0, 0.3)
lengths = st.floats(0.01, 100)
moments = st.floats(0, 1e6)


@st.composite
def terms_and_rates(draw: st.DrawFn) -> tuple[LeaseTerms, float, float]:
    """Terms, and two clocks that keep to them: how many seconds each shows in a second."""
    terms = LeaseTerms(length=draw(lengths), drift=draw(drifts), slack=draw(st.floats(0, 1)))
    rates = st.floats(1 - terms.drift, 1 + terms.drift)
    return terms, draw(rates), draw(rates)


@given(terms_and_rates(), st.floats(0, 10), st.floats(0, 10))
def test_w_outlasts_every_lease_from_before_the_wait(
    drawn: tuple[LeaseTerms, float, float], sent_before: float, answered_late: float
) -> None:
    """I4: however the clocks of the waiter and of the holder drift. In real seconds; the
    wait begins at 0."""
    terms, waiter, holder = drawn
    sent = 0.0 - sent_before
    lease = HolderLease()
    nonce = lease.request(sent * holder)
    lease.grant(nonce, terms.length, head=1)
    ends = lease.until / holder
    wait_ends = terms.wait / waiter
    assert ends <= wait_ends + 1e-9
    assert not lease.is_live((wait_ends + answered_late + 1e-9) * holder)


@given(terms_and_rates(), moments, st.floats(0, 100), st.floats(0, 10), st.floats(0, 10))
def test_a_lease_downstream_never_outlives_its_grantors(
    drawn: tuple[LeaseTerms, float, float],
    granted_at: float,
    remaining: float,
    sent_before: float,
    arrives_after: float,
) -> None:
    """I6, and I3: nor does it outlive what the grantor takes for its end. In real seconds."""
    terms, grantors, holders = drawn
    grantor = Grantor(terms)
    holder = grantor.join("holder")
    granted = grantor.renew(holder, granted_at * grantors, remaining * grantors)
    lease = HolderLease()
    nonce = lease.request((granted_at - sent_before) * holders)
    lease.grant(nonce, granted.ttl, granted.head)
    ends = lease.until / holders
    tolerance = 1e-9 * (1 + granted_at)
    if granted.ttl:
        assert ends <= granted_at + remaining + tolerance
        assert ends <= holder.lease_ends / grantors + tolerance
    assert granted.ttl <= terms.length


@pytest.mark.parametrize("remaining", [0.0, -1.0, -math.inf])
def test_no_lease_is_granted_longer_than_the_own_one(remaining: float) -> None:
    grantor = Grantor(LeaseTerms())
    holder = grantor.join("holder")
    assert grantor.renew(holder, 5.0, remaining).ttl == 0
    assert grantor.safe_revision(5.0) == 0
    assert holder.lease_ends == -math.inf


class TestHolder:
    """I2."""

    def test_a_lease_counts_from_the_request(self) -> None:
        lease = HolderLease()
        nonce = lease.request(10.0)
        assert lease.grant(nonce, 2.0, head=5)
        assert lease.is_live(11.9)
        assert not lease.is_live(12.0)

    def test_a_grant_counts_when_everything_up_to_its_head_is_applied(self) -> None:
        lease = HolderLease()
        lease.grant(lease.request(0.0), 2.0, head=5)
        assert not lease.grant(lease.request(1.0), 2.0, head=7)
        assert lease.until == 2.0
        lease.advance_to(6)
        assert lease.until == 2.0
        lease.advance_to(7)
        assert lease.until == 3.0

    def test_a_grant_counts_once_and_only_if_it_was_asked_for(self) -> None:
        lease = HolderLease()
        nonce = lease.request(0.0)
        lease.grant(nonce, 2.0, head=5)
        assert not lease.grant(nonce, 99.0, head=5)
        assert not lease.grant(nonce + 1, 99.0, head=5)
        assert lease.until == 2.0

    def test_a_grant_that_a_change_has_overtaken_is_as_good_as_any(self) -> None:
        """Its head was read before a commit whose notification came first. Taken for a loss of
        history, it would empty memory at every such meeting."""
        lease = HolderLease()
        lease.grant(lease.request(0.0), 2.0, head=5)
        nonce = lease.request(1.0)
        lease.advance_to(6)
        assert not lease.grant(nonce, 2.0, head=5)
        assert lease.applied == 6
        assert lease.until == 3.0

    def test_a_head_from_before_the_request_is_another_history(self) -> None:
        lease = HolderLease()
        lease.grant(lease.request(0.0), 2.0, head=5)
        assert lease.grant(lease.request(1.0), 2.0, head=4)
        assert lease.applied == 4

    def test_another_epoch_is_another_history(self) -> None:
        lease = HolderLease()
        lease.grant(lease.request(0.0), 2.0, head=5, epoch="one")
        assert lease.grant(lease.request(1.0), 2.0, head=9, epoch="two")

    def test_what_is_given_up_does_not_come_back(self) -> None:
        lease = HolderLease()
        nonce = lease.request(0.0)
        lease.grant(lease.request(0.0), 2.0, head=5)
        lease.abandon()
        assert not lease.grant(nonce, 2.0, head=5)
        assert not lease.is_live(0.0)

    def test_renewals_without_an_answer_do_not_pile_up(self) -> None:
        lease = HolderLease()
        for moment in range(1000):
            lease.request(float(moment))
        assert len(lease._pending) <= 16


class TestGrantor:
    """I3."""

    def grantor(self) -> Grantor:
        grantor = Grantor(LeaseTerms(length=2.0, drift=0.0, slack=0.0))
        grantor.advance(5, 10.0)
        return grantor

    def test_a_holder_owes_until_it_acknowledges_or_its_lease_runs_out(self) -> None:
        grantor = self.grantor()
        holder = grantor.join("a")
        grantor.renew(holder, 10.0, math.inf)
        grantor.advance(6, 10.5)
        assert grantor.safe_revision(11.0) == 5
        assert grantor.safe_from(6) == 12.0
        assert grantor.safe_revision(12.0) == 6
        assert grantor.acknowledge(holder, 6, 11.0)
        assert grantor.safe_revision(11.0) == 6

    def test_a_holder_that_has_gone_owes_as_before(self) -> None:
        grantor = self.grantor()
        holder = grantor.join("a")
        grantor.renew(holder, 10.0, math.inf)
        grantor.leave(holder)
        grantor.advance(6, 10.5)
        assert grantor.safe_revision(11.0) == 5
        assert grantor.safe_revision(12.0) == 6

    def test_a_holder_that_comes_back_owes_as_before_until_it_has_acknowledged(self) -> None:
        """It gave up its own lease. Those behind it may still answer under leases that it
        had granted."""
        grantor = self.grantor()
        former = grantor.join("a")
        grantor.renew(former, 10.0, math.inf)
        grantor.leave(former)
        grantor.advance(6, 10.5)
        holder = grantor.join("a")
        assert grantor.safe_revision(11.0) == 5
        grantor.acknowledge(holder, 0, 11.0)
        grantor.acknowledge(holder, -1, 11.0)
        assert grantor.safe_revision(11.0) == 5
        grantor.acknowledge(holder, 6, 11.0)
        assert grantor.safe_revision(11.0) == 6

    def test_no_holder_acknowledges_for_another(self) -> None:
        grantor = self.grantor()
        gone = grantor.join("a")
        grantor.renew(gone, 10.0, math.inf)
        grantor.leave(gone)
        grantor.advance(6, 10.5)
        grantor.acknowledge(grantor.join("b"), 6, 11.0)
        assert grantor.safe_revision(11.0) == 5

    def test_an_acknowledgement_never_reaches_beyond_the_head_nor_goes_back(self) -> None:
        grantor = self.grantor()
        holder = grantor.join("a")
        grantor.renew(holder, 10.0, math.inf)
        grantor.acknowledge(holder, 99, 11.0)
        grantor.advance(6, 10.5)
        assert grantor.safe_revision(11.0) == 5
        grantor.acknowledge(holder, 6, 11.0)
        assert not grantor.acknowledge(holder, 3, 11.0)
        assert grantor.safe_revision(11.0) == 6

    def test_on_another_history_earlier_acknowledgements_mean_nothing(self) -> None:
        grantor = self.grantor()
        holder = grantor.join("a")
        grantor.renew(holder, 10.0, math.inf)
        grantor.leave(holder)
        grantor.restart(3)
        assert grantor.safe_revision(11.0) == -1
        assert grantor.safe_revision(12.0) == 3
