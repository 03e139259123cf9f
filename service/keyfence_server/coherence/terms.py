"""The durations that the fence depends on, and what is computed from them."""

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
        slack: δ, in seconds: the delay that is allowed between reading the clock and acting on it.
        renewals: how often a holder renews in the length of a lease. Safety does not depend on it.
            Fewer renewals cost less; with more, more can be lost before a lease expires.
    """

    length: float = 2.0
    drift: float = 0.01
    slack: float = 0.05
    renewals: float = 3.0

    @property
    def wait(self) -> float:
        """W = L(1+ρ)/(1−ρ)+δ: after so long by the waiter's clock, every lease that was
        granted before the wait began has expired by its holder's clock."""
        return self.margin(self.length) + self.slack

    def margin(self, ttl: float) -> float:
        """How long a lease of `ttl` can last, as seen by its grantor's clock."""
        return ttl * (1 + self.drift) / (1 - self.drift)

    def nested(self, remaining: float) -> float:
        """The longest lease to grant while the own one lasts `remaining` more seconds (rule I6)."""
        return max(0.0, min(self.length, remaining * (1 - self.drift) / (1 + self.drift)))

    def agree_with(self, others: LeaseTerms) -> bool:
        """Whether W of one bounds leases of the other. Slack and the number of renewals do not
        matter for this."""
        return self.length == others.length and self.drift == others.drift

    def outlasting(self, others: Iterable[LeaseTerms]) -> LeaseTerms:
        """The terms whose W is long enough for leases under these and all other terms."""
        every = (self, *others)
        return LeaseTerms(
            max(one.length for one in every),
            max(one.drift for one in every),
            max(one.slack for one in every),
            self.renewals,
        )

    def allowing_for(self, drift: float) -> LeaseTerms:
        """The same terms, with at least this drift."""
        return replace(self, drift=max(self.drift, drift))

    def patience(self, *, is_nested: bool) -> float:
        """For how long a holder may leave a revision unacknowledged and still be granted leases
        (rule I8), in seconds. A sidecar needs up to W when a holder behind it is silent. A sidecar
        allows the holders behind it less, so that its own grantor does not cut it off for them."""
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
