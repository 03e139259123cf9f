"""The grantor, the network, the keys and the judge, in virtual time and from one seed.

The grantor does what rule I4 of docs/fence.md allows and no more: it counts a change as
acknowledged when the holder has acknowledged it, when a whole lease has passed since the
commit, or when the holder has said hello again. Everything else it does badly.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from conformance.holders import Holder
from keyfence.v1 import principal_pb2, reason_pb2
from keyfence.v1 import replication_service_pb2 as messages

LEASE_SECONDS: Final = 2.0
SCOPE: Final = "vps:read"
_KEYS: Final = tuple(f"kf_live_key{number}" for number in range(4))
_STEPS: Final = 400
_LONGEST_DELAY_SECONDS: Final = 1.5

# Each story draws how much there is of each trouble: one that has a little of everything finds
# less than one that has much of something.
_MUCH: Final = (0.0, 0.0, 1.0, 4.0)
_IS_SLOW: Final = (0.0, 0.1, 0.4)
_PAUSES: Final = (0.0, 0.3)
_REORDERS: Final = (0.0, 0.25, 0.6)
_SPEAKS_AGAIN: Final = (0.02, 0.1, 0.5)
_GATHERS: Final = (0.0, 0.5, 1.0)


@dataclass(slots=True)
class _Key:
    """A key, and what it was after each revision that changed it.

    Attributes:
        history: (revision, whether the key works), the oldest first.
        settled: no answer may show the key as it was before this revision.
    """

    key_id: str
    history: list[tuple[int, bool]]
    settled: int = 0

    def works_at(self, revision: int) -> bool:
        return [works for at, works in self.history if at <= revision][-1]

    def may_be(self, works: bool) -> bool:
        """Whether an answer may show the key so."""
        return self.works_at(self.settled) is works or any(
            state is works for at, state in self.history if at > self.settled
        )


@dataclass(slots=True)
class _Pending:
    revision: int
    committed_at: float


@dataclass(slots=True)
class _Fetch:
    number: int
    key: str
    at_least: int
    arrives_at: float
    response: messages.FetchFactsResponse | None = None


@dataclass(slots=True)
class _Sent:
    arrives_at: float
    message: messages.SyncResponse


@dataclass(slots=True)
class _Asked:
    arrives_at: float
    stream: int
    nonce: int
    applied: int


@dataclass(slots=True)
class World:
    """One seed's world."""

    holder: Holder
    seed: int
    now: float = 100.0
    epoch: int = 1
    head: int = 10
    answers: int = 0
    stale: list[str] = field(default_factory=list)
    _random: random.Random = field(init=False)
    _is_slow: float = field(init=False)
    _pauses: float = field(init=False)
    _reorders: float = field(init=False)
    _speaks_again: float = field(init=False)
    _gathers: float = field(init=False)
    _keys: dict[str, _Key] = field(init=False)
    _pending: list[_Pending] = field(default_factory=list)
    _stream: int = 0
    _is_open: bool = False
    _is_silent: bool = False
    _up: deque[_Asked] = field(default_factory=deque)
    _down: deque[_Sent] = field(default_factory=deque)
    _fetches: list[_Fetch] = field(default_factory=list)
    _last_nonce: int = 0
    _acknowledgements_count: bool = True
    _anything_goes_until: float = 0.0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._is_slow = self._random.choice(_IS_SLOW)
        self._pauses = self._random.choice(_PAUSES)
        self._reorders = self._random.choice(_REORDERS)
        self._speaks_again = self._random.choice(_SPEAKS_AGAIN)
        self._gathers = self._random.choice(_GATHERS)
        self._keys = {key: _Key(f"key_{number}", [(0, True)]) for number, key in enumerate(_KEYS)}

    def run(self) -> None:
        """Tells the whole story."""
        self.holder.start()
        actions = {
            self._pass_time: 30.0,
            self._renew: 14.0,
            self._acknowledge: 14.0,
            self._carry: 40.0,
            self._check: 40.0,
            self._fetch: 24.0,
            self._mutate: 6.0,
        }
        troubles = {
            self._lose_a_change: 1.0,
            self._repeat_a_lease: 2.0,
            self._lie_about_a_nonce: 2.0,
            self._fall_silent: 1.0,
            self._break: 1.0,
            self._fail_over: 0.7,
        }
        for trouble, weight in troubles.items():
            actions[trouble] = weight * self._random.choice(_MUCH)
        chosen = self._random.choices(tuple(actions), tuple(actions.values()), k=_STEPS)
        for action in chosen:
            if not self._is_open:
                self._open()
            action()
            self._settle()
            if self.stale:
                return

    # --- the holder's side -------------------------------------------------------------

    def _open(self) -> None:
        self._stream += 1
        self._is_open = True
        self._is_silent = False
        self._acknowledgements_count = True
        self._down.clear()
        self._up.clear()
        self.holder.begin(self.now)
        # With its hello the holder says that it has given up what it held.
        for pending in self._pending:
            self._settle_revision(pending.revision)
        self._pending.clear()

    def _renew(self) -> None:
        nonce, applied = self.holder.renew(self.now)
        self._last_nonce = nonce
        self._up.append(_Asked(self._soon(self._up), self._stream, nonce, applied))

    def _acknowledge(self) -> None:
        applied = self.holder.acknowledge(self.now)
        if applied is not None:
            self._up.append(_Asked(self._soon(self._up), self._stream, 0, applied))

    def _check(self) -> None:
        for key, known in self._keys.items():
            reason = self.holder.check(self.now, key, SCOPE)
            if reason is None:
                continue
            self.answers += 1
            works = reason == "OK"
            if self.now >= self._anything_goes_until and not known.may_be(works):
                self.stale.append(
                    f"seed {self.seed}, at {self.now:.3f}: {key} was answered {reason}, and is "
                    f"not so since revision {known.settled} of epoch {self.epoch}"
                )

    def _fetch(self) -> None:
        key = self._random.choice(_KEYS)
        asked = self.holder.fill(self.now, key)
        if asked is not None:
            number, at_least = asked
            self._fetches.append(_Fetch(number, key, at_least, self.now + self._delay()))

    # --- the network -------------------------------------------------------------------

    def _pass_time(self) -> None:
        self.now += self._random.choice((0.01, 0.05, 0.1, 0.3))
        if self._is_silent and self._random.random() < self._speaks_again:
            self._is_silent = False

    def _delay(self) -> float:
        if self._random.random() < self._is_slow:
            return self._random.uniform(0, _LONGEST_DELAY_SECONDS)
        return self._random.choice((0.0, 0.02, 0.1))

    def _soon(self, queue: deque[_Asked] | deque[_Sent]) -> float:
        """When a message arrives that is sent now: streams keep the order."""
        last = queue[-1].arrives_at if queue else 0.0
        return max(last, self.now + self._delay())

    def _carry(self) -> None:
        while self._up and self._up[0].arrives_at <= self.now:
            self._hear(self._up.popleft())
        while self._is_open and self._down and self._down[0].arrives_at <= self.now:
            if not self.holder.take(self.now, self._down.popleft().message):
                self._is_open = False
            if self._random.random() < self._pauses:
                break
        for fetch in tuple(self._fetches):
            if fetch.arrives_at > self.now:
                continue
            if fetch.response is None:
                fetch.response = self._facts(fetch)
                fetch.arrives_at = self.now + self._delay()
            else:
                self._fetches.remove(fetch)
                self.holder.facts(self.now, fetch.number, fetch.key, fetch.response)

    # --- the grantor -------------------------------------------------------------------

    def _hear(self, asked: _Asked) -> None:
        if asked.stream != self._stream or self._is_silent:
            return
        for pending in tuple(self._pending):
            if self._acknowledgements_count and asked.applied >= pending.revision:
                self._pending.remove(pending)
                self._settle_revision(pending.revision)
        if asked.nonce:
            ttl = self._random.choice((LEASE_SECONDS, LEASE_SECONDS, LEASE_SECONDS / 4, 0.0))
            self._say(self._lease(asked.nonce, ttl))

    def _lease(self, nonce: int, ttl: float) -> messages.SyncResponse:
        message = messages.SyncResponse()
        message.lease.nonce = nonce
        message.lease.ttl.FromMilliseconds(int(ttl * 1000))
        message.lease.head_revision = self.head
        message.lease.epoch = str(self.epoch)
        return message

    def _say(self, message: messages.SyncResponse) -> None:
        if not self._is_silent:
            self._down.append(_Sent(self._soon(self._down), message))
            if len(self._down) > 1 and self._random.random() < self._reorders:
                self._reorder()

    def _reorder(self) -> None:
        """A lease may overtake the changes before it, and the other way round."""
        last, before = self._down[-1], self._down[-2]
        if last.message.HasField("lease") is not before.message.HasField("lease"):
            last.message, before.message = before.message, last.message

    def _facts(self, fetch: _Fetch) -> messages.FetchFactsResponse:
        known = self._keys[fetch.key]
        revision = self.head
        if self._random.random() < 0.2:
            # From a replica that lags, and says so.
            revision = max(0, revision - self._random.randrange(4))
        epoch = self.epoch
        works = known.works_at(revision)
        if self._random.random() < 0.05:
            epoch, works = self.epoch + 1000, not works
        standing = reason_pb2.REASON_OK if works else reason_pb2.REASON_KEY_DISABLED
        return messages.FetchFactsResponse(
            facts=messages.KeyFacts(
                principal=principal_pb2.Principal(
                    key_id=known.key_id,
                    keyspace="demo",
                    account_id="acct_1",
                    effective_scopes=[SCOPE],
                ),
                standing=standing,
                depends_on=[f"key:{known.key_id}", "keyspace:demo", "account:acct_1"],
            ),
            revision=revision,
            epoch=str(epoch),
            well_formed=True,
        )

    def _mutate(self) -> None:
        self._commit(self._random.choice(_KEYS))

    def _commit(self, key: str, *, is_lost: bool = False) -> None:
        known = self._keys[key]
        self.head += 1
        known.history.append((self.head, not known.works_at(self.head)))
        self._pending.append(_Pending(self.head, self.now))
        change = messages.SubjectChange(key_id=known.key_id)
        kind = self._random.random()
        if kind < 0.05:
            change = messages.SubjectChange(keyspace="demo")
        elif kind < 0.1:
            change = messages.SubjectChange(account_id="acct_1")
        elif kind < 0.2:
            change = messages.SubjectChange()  # what a later version would say
        if not is_lost and not self._gather(change):
            self._say(
                messages.SyncResponse(
                    changes=messages.RevisionChanges(revision=self.head, changes=[change])
                )
            )

    def _gather(self, change: messages.SubjectChange) -> bool:
        """A change may join those right before it, if they are still to be sent."""
        if not self._down or self._is_silent or self._random.random() >= self._gathers:
            return False
        last = self._down[-1].message
        if not last.HasField("changes") or last.changes.revision != self.head - 1:
            return False
        last.changes.first_revision = last.changes.first_revision or last.changes.revision
        last.changes.revision = self.head
        last.changes.changes.append(change)
        return True

    def _lose_a_change(self) -> None:
        self._commit(self._random.choice(_KEYS), is_lost=True)
        if self._random.random() < 0.5:
            self._commit(self._random.choice(_KEYS))

    def _repeat_a_lease(self) -> None:
        self._say(self._lease(self._last_nonce, LEASE_SECONDS))

    def _lie_about_a_nonce(self) -> None:
        self._say(self._lease(self._last_nonce + self._random.choice((-5, 1, 7)), LEASE_SECONDS))

    def _fall_silent(self) -> None:
        self._is_silent = True

    def _break(self) -> None:
        self._is_open = False

    def _fail_over(self) -> None:
        """The newest revisions are lost, and others take their place, on the same stream."""
        lost = self._random.randrange(3)
        self.head = max(1, self.head - lost)
        self.epoch += 1
        for known in self._keys.values():
            known.history = [(at, works) for at, works in known.history if at <= self.head]
            known.settled = min(known.settled, self.head)
            if self._random.random() < 0.5:
                # A change that the holder was never told of.
                self.head += 1
                known.history.append((self.head, not known.works_at(self.head)))
        # Of revisions with such numbers the holder may have acknowledged others, so only time
        # counts on this stream, and until then the holder may answer from the lost epoch.
        self._acknowledgements_count = False
        self._pending = [_Pending(self.head, self.now)]
        self._anything_goes_until = self.now + LEASE_SECONDS

    # --- the judge ---------------------------------------------------------------------

    def _settle(self) -> None:
        for pending in tuple(self._pending):
            # No lease that was granted before the commit lives any longer.
            if self.now >= pending.committed_at + LEASE_SECONDS:
                self._pending.remove(pending)
                self._settle_revision(pending.revision)

    def _settle_revision(self, revision: int) -> None:
        for known in self._keys.values():
            known.settled = max(known.settled, revision)
