"""The lengths of time that the fence rests on, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from keyfence_server.coherence.delays import Allowance


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """How long leases last, and how far clocks may drift.

    Attributes:
        length: L, in seconds.
        drift: ρ: a clock shows between (1−ρ) and (1+ρ) seconds in a second.
        slack: δ, in seconds: for what a process may be late by between reading its clock
            and acting on it.
        renewals: how often a holder renews in the length of a lease. Nothing rests on it:
            fewer cost less, and more may be lost or late before a lease is.
    """

    length: float = 2.0
    drift: float = 0.01
    slack: float = 0.05
    renewals: float = 3.0

    @property
    def wait(self) -> float:
        """W = L(1+ρ)/(1−ρ)+δ: after so long by the waiter's clock, every lease that was
        granted before the wait began has run out by its holder's."""
        return self.margin(self.length) + self.slack

    def margin(self, ttl: float) -> float:
        """How long a lease of `ttl` can last, as seen by its grantor's clock."""
        return ttl * (1 + self.drift) / (1 - self.drift)

    def nested(self, remaining: float) -> float:
        """The longest lease to give away when one's own lasts `remaining` more (rule I6)."""
        return max(0.0, min(self.length, remaining * (1 - self.drift) / (1 + self.drift)))

    def agree_with(self, others: LeaseTerms) -> bool:
        """Whether a wait under one bounds leases under the other. Neither slack nor how often
        leases are renewed matters to that."""
        return self.length == others.length and self.drift == others.drift

    def outlasting(self, others: Iterable[LeaseTerms]) -> LeaseTerms:
        """The terms whose W outlasts leases under these and under any of the others."""
        every = (self, *others)
        return LeaseTerms(
            max(one.length for one in every),
            max(one.drift for one in every),
            max(one.slack for one in every),
            self.renewals,
        )

    def allowing_for(self, drift: float) -> LeaseTerms:
        """The same for clocks that may drift so far at least."""
        return replace(self, drift=max(self.drift, drift))

    def patience(self, *, is_nested: bool) -> float:
        """For how long a holder may leave a revision unacknowledged and still be granted leases
        (rule I8). A sidecar needs up to W when a holder behind it is silent; and a sidecar gives
        the holders behind it less, so that its own grantor does not take it for the culprit."""
        return self.length / 2 if is_nested else self.wait + self.length

    def may_delay_by_renewing(self, *, is_nested: bool) -> Allowance:
        """How long holders of a credential may delay mutations while they renew (rule I8)."""
        return Allowance((2 if is_nested else 5) * self.wait, 0.005, self.length / 8)

    def may_delay_by_silence(self) -> Allowance:
        """How long holders of a credential may delay mutations by being silent (rule I8)."""
        return Allowance(30 * self.wait, 0.1, self.length / 8)

    @property
    def renewal_interval(self) -> float:
        """How long after a renewal the next one is sent, in seconds."""
        return self.length / self.renewals
