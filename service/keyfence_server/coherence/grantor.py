"""The grantor's side of leases: the holders that have one, and what each has acknowledged.

A server process grants leases to sidecars and SDKs; a sidecar grants leases to the SDKs
behind it. A grantor that acknowledges revision R upstream promises that no holder
downstream answers from before R any more (rule I3). It knows that of a holder which has
acknowledged R, or whose leases from before R have expired by the grantor's clock, with the
drift of both clocks allowed for.

A lease under a head of R or more is no lease from before R: the holder answers under it
only when it has applied everything up to its head (rule I2). So renewals do not prolong
what a holder owes for R, and a grantor waits at most W for any holder (rule I8).

No I/O and no clock in here: times are readings, in seconds, of the grantor's own
`CLOCK_BOOTTIME`.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

from keyfence_server.coherence.delays import DelayBudget
from keyfence_server.coherence.terms import LeaseTerms

NEVER_GRANTED: Final = float("-inf")
NOTHING_ACKNOWLEDGED: Final = -1
_MOST_GRANTS: Final = 16
# The first request may come from before the holder fell silent. The second may come from a holder
# that has just come back and has not acknowledged yet.
_RENEWALS_OF_A_LAGGARD: Final = 3


@dataclass(slots=True)
class _Grant:
    """A lease that may be valid.

    Attributes:
        head: the revision that the holder must have applied before it answers under the lease.
        ends: when the lease has expired by any holder's clock; by the grantor's clock.
    """

    head: int
    ends: float


@dataclass(eq=False, slots=True)
class HolderRecord:
    """What a grantor knows of one holder.

    Attributes:
        holder_id: the id that the holder has chosen, together with its credential.
        credential: the id of the holder's credential.
        acknowledged: the revision up to which the holder has said that it, and every holder
            downstream of it, has applied every change.
        grants: its leases that may be valid, in the order of their heads.
        behind_since: when the first revision that it has not acknowledged was pushed; None:
            it has acknowledged everything.
        renewals_while_behind: how many leases it has asked for since.
        renewed_at: when it last asked for a lease.
        former: the same holder on streams that have ended. Leases of that time may be alive:
            not the holder's own, which it gave up, but those that it had granted in turn.
    """

    holder_id: str
    acknowledged: int
    former: tuple[HolderRecord, ...] = ()
    credential: str = ""
    grants: list[_Grant] = field(init=False, default_factory=list)
    behind_since: float | None = field(init=False, default=None)
    renewals_while_behind: int = field(init=False, default=0)
    renewed_at: float = field(init=False, default=NEVER_GRANTED)

    @property
    def lease_ends(self) -> float:
        """When the last of its leases has expired, by the grantor's clock."""
        return max((one.ends for one in self.grants), default=NEVER_GRANTED)

    def safe_from(self, revision: int) -> float:
        """From when on it cannot answer from before the revision, by the grantor's clock."""
        if self.acknowledged >= revision:
            return NEVER_GRANTED
        return max((one.ends for one in self.grants if one.head < revision), default=NEVER_GRANTED)

    def lowest_answerable(self, now: float) -> int | None:
        """The lowest revision that it can answer from now; None if it cannot answer at all."""
        live = [one.head for one in self.grants if now < one.ends]
        return max(self.acknowledged, min(live)) if live else None

    def note_grant(self, head: int, ends: float, now: float) -> None:
        """Records a lease. Of leases under one head, only the longest is kept."""
        self.grants = [one for one in self.grants if now < one.ends]
        last = self.grants[-1] if self.grants else None
        if last is not None and last.head == head:
            last.ends = max(last.ends, ends)
            return
        self.grants.append(_Grant(head, ends))
        if len(self.grants) > _MOST_GRANTS:
            # The oldest two count as one lease: under the lower head, until the later end.
            first = self.grants.pop(0)
            self.grants[0] = _Grant(first.head, max(first.ends, self.grants[0].ends))

    def owe_everything(self) -> None:
        """Records that its revisions are of an earlier history: its acknowledgements do not count,
        and its leases must expire."""
        ends = self.lease_ends
        self.acknowledged = NOTHING_ACKNOWLEDGED
        self.grants = [_Grant(NOTHING_ACKNOWLEDGED, ends)] if self.grants else []
        self.behind_since = None


@dataclass(frozen=True, slots=True)
class Granted:
    """A lease that is sent to a holder.

    Attributes:
        ttl: in seconds.
        head: the revision that the holder must apply before the lease counts.
        renew_after: when the holder should renew, in seconds from its last renewal.
        drift: the drift of clocks that the holder must allow for.
    """

    ttl: float
    head: int
    renew_after: float
    drift: float


class Grantor:
    """Grants leases, and records acknowledgements.

    Args:
        is_nested: whether this grantor is itself downstream of another one. It is then less
            patient with its holders, since its own grantor counts their delays as its own.
    """

    def __init__(self, terms: LeaseTerms, *, is_nested: bool = False) -> None:
        self._terms = terms
        self._patience = terms.patience(is_nested=is_nested)
        # In insertion order, so that a simulated scenario can be repeated.
        self._holders: dict[HolderRecord, None] = {}
        self._gone: dict[HolderRecord, None] = {}
        self._head = 0
        self._pushed: list[int] = []
        self._pushed_at: list[float] = []
        self._delays_by_renewing = DelayBudget(terms.may_delay_by_renewing(is_nested=is_nested))
        self._delays_by_silence = DelayBudget(terms.may_delay_by_silence())

    @property
    def terms(self) -> LeaseTerms:
        """The terms of the leases that are granted here."""
        return self._terms

    @property
    def head(self) -> int:
        """The revision up to which the grantor itself has applied every change."""
        return self._head

    @property
    def known(self) -> tuple[HolderRecord, ...]:
        """The connected holders, and those whose leases may still be valid."""
        return (*self._holders, *self._gone)

    @property
    def holders(self) -> tuple[HolderRecord, ...]:
        """The holders that are connected."""
        return tuple(self._holders)

    def advance(self, head: int, now: float) -> None:
        """Records that the grantor has applied everything up to `head`, and has queued the changes
        for every connected holder."""
        if head <= self._head:
            return
        self._head = head
        self._pushed.append(head)
        self._pushed_at.append(now)
        forgotten = bisect_left(self._pushed_at, now - self._patience) - 1
        if forgotten > 0:
            # Of the revisions that are older than the patience, only the last one is kept.
            del self._pushed[:forgotten], self._pushed_at[:forgotten]
        for holder in self.known:
            if holder.behind_since is None and holder.acknowledged < head:
                holder.behind_since = now

    def join(self, holder_id: str, credential: str = "") -> HolderRecord:
        """Adds a holder with an empty memory. It owes only what it owes from its former streams."""
        former = tuple(one for one in self.known if one.holder_id == holder_id)
        for one in former:
            one.former = ()
        holder = HolderRecord(holder_id, self._head, former, credential=credential)
        self._holders[holder] = None
        return holder

    def acknowledge(self, holder: HolderRecord, applied: int, now: float) -> bool:
        """Records the revision that a holder, and every holder downstream of it, has applied. A
        revision below the recorded one changes nothing, and one above the head counts as the head.
        Returns whether the record has changed."""
        applied = min(applied, self._head)
        moved = False
        for one in (holder, *holder.former):
            if one.acknowledged < applied:
                self._charge(one, now)
                one.acknowledged = applied
                one.behind_since = self._pushed_after(applied)
                one.renewals_while_behind = 0
                moved = True
        return moved

    def may_renew(self, holder: HolderRecord, now: float) -> bool:
        """Whether a holder is granted leases at this moment (rule I8): it has left nothing
        unacknowledged for too long, and the holders of its credential have not delayed
        mutations for too long in all."""
        self._charge(holder, now)
        since = holder.behind_since
        is_late = since is not None and now - since > self._patience
        return not is_late and not self.seconds_until_allowed(holder.credential, now)

    def seconds_until_allowed(self, credential: str, now: float) -> float:
        """For how long the credential's holders get no lease (rule I8); 0 if they get one."""
        return max(
            budget.seconds_until_allowed(credential, now)
            for budget in (self._delays_by_renewing, self._delays_by_silence)
        )

    def renew(self, holder: HolderRecord, now: float, remaining: float) -> Granted:
        """Grants a lease.

        Args:
            now: read before the lease is sent.
            remaining: how long the grantor's own lease and the holder's credential last from
                `now` on, in seconds; infinity if they do not end. 0 for a holder that is to
                have no lease.

        Returns:
            The lease; of length nothing if there is none to give.
        """
        ttl = self._terms.nested(remaining)
        holder.renewed_at = now
        self.note_request(holder)
        if ttl:
            ends = now + self._terms.margin(ttl) + self._terms.slack
            holder.note_grant(self._head, ends, now)
        return Granted(ttl, self._head, ttl / self._terms.renewals, self._terms.drift)

    @staticmethod
    def note_request(holder: HolderRecord) -> None:
        """Records that a holder has asked for a lease: also one that has been asked to give
        everything up, and so gets none. A good holder does not go on asking then."""
        holder.renewals_while_behind += holder.behind_since is not None

    def allow_for(self, drift: float) -> None:
        """Allows for at least this drift of clocks from now on, as the grantor upstream does."""
        self._terms = self._terms.allowing_for(drift)

    def restart(self, head: int) -> None:
        """Continues from a head of another history. Acknowledgements of the earlier history do not
        count, so the leases of its holders must expire."""
        for holder in self.known:
            holder.owe_everything()
        self._pushed.clear()
        self._pushed_at.clear()
        self._head = head

    def give_up(self, holder: HolderRecord) -> None:
        """Records that the holder and all holders downstream of it have emptied their memories and
        have no lease, on this stream or an earlier one. So it owes nothing."""
        for one in (holder, *holder.former):
            one.grants.clear()
            one.behind_since = None

    def leave(self, holder: HolderRecord) -> None:
        """Records that the stream has ended. The holder may still answer until its lease
        expires."""
        if holder in self._holders:
            del self._holders[holder]
            self._gone[holder] = None

    def safe_revision(self, now: float) -> int:
        """The revision that the grantor may acknowledge upstream: no holder downstream can
        still answer from before it (rule I3)."""
        self._drop_expired(now)
        known = (holder.lowest_answerable(now) for holder in self.known)
        return min([self._head, *(one for one in known if one is not None)])

    def owing(self, revision: int, now: float) -> list[HolderRecord]:
        """The holders that may still answer from before the revision."""
        return [holder for holder in self.known if now < holder.safe_from(revision)]

    def safe_from(self, revision: int) -> float:
        """When no holder can answer from before the revision any more, by the grantor's clock,
        if none acknowledges it. Leases that are granted from now on change nothing in this once
        the grantor has applied the revision."""
        return max(
            (holder.safe_from(revision) for holder in self.known),
            default=NEVER_GRANTED,
        )

    def _drop_expired(self, now: float) -> None:
        for holder in tuple(self._gone):
            if holder.lease_ends <= now:
                self._charge(holder, now)
                del self._gone[holder]

    def _charge(self, holder: HolderRecord, now: float) -> None:
        """Adds the time for which the holder has delayed mutations to its credential's account."""
        since = holder.behind_since
        if since is not None:
            ends = min(now, holder.safe_from(self._head))
            renews = holder.renewals_while_behind >= _RENEWALS_OF_A_LAGGARD
            budget = self._delays_by_renewing if renews else self._delays_by_silence
            budget.charge(holder.credential, since, ends)

    def _pushed_after(self, revision: int) -> float | None:
        place = bisect_left(self._pushed, revision + 1)
        return self._pushed_at[place] if place < len(self._pushed) else None
