"""What goes down the streams to holders, and what comes back up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from keyfence.holder.lease import HolderLease
from keyfence.holder.session import HolderSession, StreamBroken
from keyfence.v1 import replication_service_pb2 as messages
from keyfence_server.adapters.upstream.following import Following
from keyfence_server.application.ports import Change, ChangeKind, FenceEnd
from keyfence_server.coherence.applied_revisions import AppliedRevisions
from keyfence_server.coherence.downstream import (
    MAX_QUEUED,
    MAX_TOGETHER,
    Admission,
    ChangesToSend,
    DownstreamHub,
    EndToSend,
    LeaseToSend,
    StreamEnded,
)
from keyfence_server.coherence.fact_cache import FactCache
from keyfence_server.coherence.grantor import Grantor
from keyfence_server.coherence.terms import LeaseTerms
from simulation.loop import DriftingClock, SimulatedLoop

CHANGE = Change(ChangeKind.KEY, "key_1", "acme")


class Hand:
    """A clock that a test moves by hand. Each move wakes the sleepers."""

    def __init__(self) -> None:
        self._now = 100.0
        self._moved = asyncio.Event()

    def now(self) -> float:
        return self._now

    async def sleep_until(self, when: float) -> None:
        while self._now < when:
            await self._moved.wait()

    async def move(self, seconds: float) -> None:
        self._now += seconds
        self._moved.set()
        self._moved = asyncio.Event()
        await turn()


async def turn() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def hub(clock: Hand) -> DownstreamHub:
    terms = LeaseTerms(length=2.0, drift=0.0, slack=0.0)
    hub = DownstreamHub(Grantor(terms), clock, lambda: float("inf"))
    hub.restart(5, "epoch")
    return hub


async def test_leases_and_changes_come_in_the_order_in_which_they_were_made(
    hub: DownstreamHub,
) -> None:
    stream = hub.open("a")
    hub.push(6, [CHANGE])
    stream.renew(1, 0)
    hub.push(7, [CHANGE])
    got = [await stream.next_message() for _ in range(3)]
    assert [type(one) for one in got] == [ChangesToSend, LeaseToSend, ChangesToSend]
    assert isinstance(got[1], LeaseToSend)
    assert (got[1].granted.head, got[1].epoch) == (6, "epoch")


async def test_a_fence_waits_for_acknowledgements(hub: DownstreamHub) -> None:
    stream = hub.open("a")
    stream.renew(1, 5)
    hub.push(6, [CHANGE])
    waiting = asyncio.ensure_future(hub.wait_until_safe(6))
    await turn()
    assert not waiting.done()
    stream.renew(0, 6)
    assert await waiting is FenceEnd.ACKNOWLEDGEMENTS


async def test_a_fence_waits_no_longer_than_the_lease(hub: DownstreamHub, clock: Hand) -> None:
    hub.open("a").renew(1, 5)
    hub.push(6, [CHANGE])
    waiting = asyncio.ensure_future(hub.wait_until_safe(6))
    await turn()
    await clock.move(1.9)
    assert not waiting.done()
    await clock.move(0.2)
    assert await waiting is FenceEnd.TIME


async def test_a_fence_that_one_of_two_has_to_be_waited_out_for_is_ended_by_time(
    hub: DownstreamHub, clock: Hand
) -> None:
    """Otherwise the silence of one holder would be hidden by the answers of another."""
    loud, silent = hub.open("a"), hub.open("b")
    loud.renew(1, 5)
    silent.renew(1, 5)
    hub.push(6, [CHANGE])
    waiting = asyncio.ensure_future(hub.wait_until_safe(6))
    loud.renew(0, 6)
    await turn()
    assert not waiting.done()
    await clock.move(2.1)
    assert await waiting is FenceEnd.TIME


async def test_whose_lease_had_run_out_before_is_not_waited_for(
    hub: DownstreamHub, clock: Hand
) -> None:
    hub.open("a").renew(1, 5)
    await clock.move(2.1)
    hub.push(6, [CHANGE])
    assert await hub.wait_until_safe(6) is FenceEnd.ACKNOWLEDGEMENTS


async def test_what_comes_after_the_end_of_a_stream_counts_for_nothing(
    hub: DownstreamHub, clock: Hand
) -> None:
    """An acknowledgement of a history that is gone would pass for one of the new one."""
    stream = hub.open("a")
    stream.renew(1, 5)
    hub.push(6, [CHANGE])
    hub.restart(6, "another")
    stream.renew(2, 6)
    assert hub.safe_revision() == -1
    await clock.move(2.1)
    assert hub.safe_revision() == 6


async def test_a_holder_that_is_too_slow_is_cut_off(hub: DownstreamHub) -> None:
    stream = hub.open("a")
    for revision in range(6, 6 + MAX_QUEUED + 1):
        hub.push(revision, [CHANGE])
    assert not hub.grantor.holders
    for _ in range(MAX_QUEUED // MAX_TOGETHER):
        got = await stream.next_message()
        assert isinstance(got, ChangesToSend)
        assert len(got.changes) == MAX_TOGETHER
    with pytest.raises(StreamEnded):
        await stream.next_message()


async def test_changes_that_wait_go_to_a_holder_together_up_to_a_bound(hub: DownstreamHub) -> None:
    stream = hub.open("a")
    count = MAX_TOGETHER + 2
    for revision in range(6, 6 + count):
        hub.push(revision, [CHANGE])
    first, rest = await stream.next_message(), await stream.next_message()
    assert isinstance(first, ChangesToSend)
    assert isinstance(rest, ChangesToSend)
    assert (first.first, first.revision, len(first.changes)) == (6, 5 + MAX_TOGETHER, MAX_TOGETHER)
    assert (rest.first, rest.revision, len(rest.changes)) == (6 + MAX_TOGETHER, 5 + count, 2)


async def test_a_sidecar_passes_several_revisions_on_as_one(hub: DownstreamHub) -> None:
    """Which of them changed the key is not known, so a holder behind it that had one of them alone
    could acknowledge it without the change."""
    revisions = AppliedRevisions(FactCache(None), hub)  # type: ignore[arg-type]
    revisions.restart(5, "epoch")
    following = Following(revisions, hub, "sidecar")
    stream = hub.open("a")
    # A lease's head can lie between them: the first two are applied already.
    several = messages.RevisionChanges(first_revision=4, revision=8)
    several.changes.add(key_id="key_1", in_keyspace="acme")
    following.apply(several)
    assert revisions.applied == 8
    assert await stream.next_message() == ChangesToSend(6, 8, (CHANGE,))


async def test_the_leases_of_a_server_that_leaves_are_waited_out(
    hub: DownstreamHub, clock: Hand
) -> None:
    hub.open("a").renew(1, 5)
    hub.close_all()
    waiting = asyncio.ensure_future(hub.wait_lost())
    await clock.move(1.9)
    assert not waiting.done()
    await clock.move(0.2)
    await waiting


async def test_revisions_go_downstream_in_order_and_once_however_they_come(
    hub: DownstreamHub,
) -> None:
    revisions = AppliedRevisions(FactCache(None), hub)  # type: ignore[arg-type]
    revisions.restart(5, "epoch")
    stream = hub.open("a")
    for revision in (7, 8, 7, 6, 6, 5):
        revisions.apply(revision, [CHANGE])
    assert revisions.applied == 8
    assert await stream.next_message() == ChangesToSend(6, 8, (CHANGE, CHANGE, CHANGE))
    hub.close_all()
    with pytest.raises(StreamEnded):
        await stream.next_message()


async def test_a_sidecar_allows_for_what_its_grantor_takes_clocks_to_drift_by(
    hub: DownstreamHub, clock: Hand
) -> None:
    """The grantor upstream counts with the larger drift. A sidecar that counts with less would say
    too early that the leases behind it have expired."""
    following = Following(AppliedRevisions(FactCache(None), hub), hub, "sidecar")  # type: ignore[arg-type]
    for drift, lasts in ((0.5, 6.0), (0.1, 6.0)):
        following.allow_for(drift)
        hub.restart(5, "epoch")
        stream = hub.open("a")
        stream.renew(1, 5)
        hub.push(6, [CHANGE])
        assert hub.grantor.safe_from(6) == pytest.approx(clock.now() + lasts)


@pytest.mark.parametrize("gives_up", [True, False])
async def test_a_holder_whose_own_credential_changes_gives_up_or_its_lease_expires(
    hub: DownstreamHub, clock: Hand, gives_up: bool
) -> None:
    """It would acknowledge that its credential is revoked, and go on answering with it: no
    holder checks its own credential."""
    concerned = hub.open("a", Admission(is_concerned_by=lambda one: one.subject == "key_1"))
    other = hub.open("b", Admission(is_concerned_by=lambda one: one.subject == "key_2"))
    for stream in (concerned, other):
        stream.renew(1, 5)
    hub.push(6, [CHANGE])
    assert isinstance(await concerned.next_message(), EndToSend)
    other.renew(0, 6)
    concerned.renew(2, 6)
    assert hub.safe_revision() == 5
    hub.push(7, [CHANGE])
    other.renew(0, 7)
    if gives_up:
        concerned.give_up()
        with pytest.raises(StreamEnded):
            await concerned.next_message()
    else:
        await clock.move(2.1)
    assert hub.safe_revision() == 7


@pytest.mark.parametrize("keeps_asking", [True, False])
async def test_a_holder_that_does_not_give_up_delays_so_many_changes_of_its_credential(
    hub: DownstreamHub, clock: Hand, *, keeps_asking: bool
) -> None:
    """Each such change costs every mutation up to W, until the budget of the credential is
    spent. One that goes on asking for leases meanwhile has the small budget."""
    delayed = 0
    for revision in range(6, 60):
        stream = hub.open("a", Admission(credential="key_1", is_concerned_by=lambda _: True))
        stream.renew(1, revision - 1)
        hub.push(revision, [CHANGE])
        if hub.safe_revision() == revision:
            break
        for nonce in range(2, 6):
            if keeps_asking:
                stream.renew(nonce, revision)
        await clock.move(2.1)
        assert hub.safe_revision() == revision
        stream.close()
        delayed += 1
    terms = hub.grantor.terms
    budgets = terms.may_delay_by_renewing(is_nested=False), terms.may_delay_by_silence()
    budget = budgets[0 if keeps_asking else 1].seconds
    assert budget <= delayed * terms.wait <= 1.25 * budget


# The holder's session, in time that is made up.


class Grantors:
    """What a session meets, one after the other: a stream, or an error in its place."""

    def __init__(self, loop: SimulatedLoop, *kinds: str) -> None:
        self._loop = loop
        self._kinds = list(kinds)
        self.opened = 0
        self.renewals = 0

    async def open_stream(self) -> ScriptedStream:
        self.opened += 1
        kind = self._kinds.pop(0) if len(self._kinds) > 1 else self._kinds[0]
        if kind == "error":
            raise OSError("the file of the token is gone")
        return ScriptedStream(self, kind)


class ScriptedStream:
    """Answers renewals as its kind does."""

    def __init__(self, grantors: Grantors, kind: str) -> None:
        self._grantors = grantors
        self._kind = kind
        self._answers: asyncio.Queue[messages.SyncResponse] = asyncio.Queue()

    async def send(self, request: messages.SyncRequest) -> None:
        if self._kind == "stuck":
            await asyncio.Event().wait()
        if not request.renew.nonce or self._kind == "silent":
            return
        self._grantors.renewals += 1
        lease = messages.Lease(nonce=request.renew.nonce, head_revision=5, epoch="e")
        lease.ttl.nanos = 1_000 if self._kind == "short" else 900_000_000
        if self._kind == "calm":
            lease.renew_after.nanos = 600_000_000
        lease.clock_drift = 0.03
        self._answers.put_nowait(messages.SyncResponse(lease=lease))
        if self._kind in _REVISIONS:
            first, revision = _REVISIONS[self._kind]
            changes = messages.RevisionChanges(first_revision=first, revision=revision)
            self._answers.put_nowait(messages.SyncResponse(changes=changes))

    async def messages(self) -> AsyncIterator[messages.SyncResponse]:
        if self._kind == "broken":
            raise StreamBroken("broken")
        while True:
            yield await self._answers.get()

    def close(self) -> None:
        pass


# What is sent behind a lease whose head is 5.
_REVISIONS = {"one": (0, 6), "several": (6, 8), "overlapping": (4, 8), "late": (7, 8)}


class Remembering:
    """A listener with nothing to forget."""

    def forget_everything(self, head: int, epoch: str) -> None:
        pass

    def apply(self, changes: messages.RevisionChanges) -> None:
        pass

    def allow_for(self, drift: float) -> None:
        pass

    async def lost(self) -> None:
        pass

    def acknowledged(self) -> int:
        return 0

    def moved(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()


def follow(*kinds: str, seconds: float) -> tuple[Grantors, bool]:
    """Lets a session run for a time. Tells what it met, and whether its lease is live."""
    loop = SimulatedLoop(random.Random(1))
    clock = DriftingClock(loop, 0.0, random.Random(1), is_steady=True)
    grantors, lease = Grantors(loop, *kinds), HolderLease()
    session = HolderSession(grantors.open_stream, messages.Hello(), lease, Remembering(), clock)

    async def run() -> bool:
        task = asyncio.ensure_future(session.run())
        await asyncio.sleep(seconds)
        assert not task.done()
        return lease.is_live(clock.now())

    try:
        return grantors, loop.run(run())
    finally:
        loop.end()


@pytest.mark.parametrize("trouble", ["error", "silent", "stuck", "broken"])
def test_whatever_becomes_of_a_stream_another_is_tried(trouble: str) -> None:
    """A session that ends, or waits for an answer that does not come, is a cache that never
    answers again."""
    grantors, is_live = follow(trouble, trouble, "good", seconds=6)
    assert grantors.opened == 3
    assert is_live


@pytest.mark.parametrize("kind", _REVISIONS)
def test_several_revisions_in_a_message_must_follow_on_what_is_applied(kind: str) -> None:
    grantors, is_live = follow(kind, "good", seconds=0.7)
    assert grantors.opened == (2 if kind == "late" else 1)
    assert is_live


@pytest.mark.parametrize(("kind", "renewals"), [("good", 20), ("calm", 10)])
def test_a_holder_renews_as_often_as_its_grantor_wants(kind: str, renewals: int) -> None:
    """Every third of the lease, unless it says otherwise."""
    grantors, is_live = follow(kind, seconds=5.9)
    assert grantors.renewals == renewals
    assert is_live


def test_a_lease_of_next_to_nothing_is_not_renewed_without_a_pause() -> None:
    """A grantor that is about to lose its own lease has only that much to give."""
    grantors, _ = follow("short", seconds=6)
    assert grantors.renewals <= 61
    assert grantors.opened == 1
