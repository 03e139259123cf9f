"""What becomes of checks while the counter that servers share is away: as set, and never
silently."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta

import pytest
import structlog

from keyfence_server.adapters.rate_limits.memory import MemoryCounter
from keyfence_server.adapters.rate_limits.redis import RedisCounter
from keyfence_server.application.rate_limits import (
    OnFailure,
    RateLimits,
    RateLimitsUnavailable,
)
from keyfence_server.domain.limits import Count, Limit, Rate, Subject
from keyfence_server.telemetry.logs import configure_logs
from support.clock import FrozenClock
from support.redis import RedisServer

TWO = Limit(Subject.KEY, "key_1/3600", Rate(2, timedelta(hours=1)))

Open = Callable[[OnFailure], Awaitable[RateLimits]]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    configure_logs("json", "debug", stream)
    yield stream
    structlog.reset_defaults()


@pytest.fixture
async def limits(redis: RedisServer, clock: FrozenClock) -> AsyncIterator[Open]:
    """Makes what decides, with the Redis of the test."""
    counters: list[RedisCounter] = []

    async def make(on_failure: OnFailure) -> RateLimits:
        counters.append(RedisCounter(redis.url, 2))
        return RateLimits(clock, MemoryCounter(clock), counters[-1], on_failure, is_alone=False)

    yield make
    for counter in counters:
        await counter.close()


async def take(limits: RateLimits, times: int = 1) -> list[tuple[bool, Count]]:
    outcomes = [await limits.take([TWO], 1) for _ in range(times)]
    return [(passes, status.count) for passes, status in outcomes]


async def test_each_server_counts_by_itself_if_that_is_set(
    limits: Open, redis: RedisServer, log: io.StringIO
) -> None:
    decides = await limits(OnFailure.LOCAL)
    assert await take(decides) == [(True, Count.WHOLE)]
    redis.stop()
    assert await take(decides, 3) == [
        (True, Count.LOCAL),
        (True, Count.LOCAL),
        (False, Count.LOCAL),
    ]
    assert (await decides.take([TWO], 0))[1].count is Count.LOCAL
    assert decides.stats.is_away
    assert decides.stats.failures == 1
    assert decides.stats.without_counter == 4
    assert log.getvalue().count("rate_limit_counter_unavailable") == 1


async def test_everything_passes_uncounted_if_that_is_set(
    limits: Open, redis: RedisServer, log: io.StringIO
) -> None:
    decides = await limits(OnFailure.ALLOW)
    redis.stop()
    assert await take(decides, 4) == [(True, Count.NONE)] * 4
    assert decides.stats.without_counter == 4
    assert "rate_limit_counter_unavailable" in log.getvalue()


async def test_nothing_is_decided_if_that_is_set(
    limits: Open, redis: RedisServer, log: io.StringIO
) -> None:
    """With an error and not with a verdict: "broken" is not taken for "denied"."""
    decides = await limits(OnFailure.DENY)
    redis.stop()
    for _ in range(3):
        with pytest.raises(RateLimitsUnavailable, match="cannot be reached"):
            await decides.take([TWO], 1)
        with pytest.raises(RateLimitsUnavailable):
            await decides.take([TWO], 0)
    assert decides.stats.without_counter == 6
    assert "rate_limit_counter_unavailable" in log.getvalue()


@pytest.mark.parametrize("on_failure", list(OnFailure))
async def test_a_counter_that_is_back_counts_again(
    limits: Open,
    redis: RedisServer,
    clock: FrozenClock,
    log: io.StringIO,
    on_failure: OnFailure,
) -> None:
    decides = await limits(on_failure)
    redis.stop()
    if on_failure is OnFailure.DENY:
        with pytest.raises(RateLimitsUnavailable):
            await take(decides)
    else:
        await take(decides)
    redis.start()
    clock.advance(timedelta(seconds=1))
    assert await take(decides, 3) == [
        (True, Count.WHOLE),
        (True, Count.WHOLE),
        (False, Count.WHOLE),
    ]
    assert not decides.stats.is_away
    assert "rate_limit_counter_available" in log.getvalue()


async def test_while_it_is_away_it_is_asked_once_a_second(
    redis: RedisServer, clock: FrozenClock
) -> None:
    """A counter that hangs must not keep every check waiting."""
    shared = RedisCounter(redis.url, 0.1)
    decides = RateLimits(clock, MemoryCounter(clock), shared, OnFailure.ALLOW, is_alone=False)
    await take(decides)
    redis.hold()
    try:
        async with asyncio.timeout(5):
            await take(decides, 500)
            assert decides.stats.failures == 1
            clock.advance(timedelta(seconds=1))
            await take(decides, 500)
            assert decides.stats.failures == 2
            clock.advance(timedelta(days=-1))
            await take(decides, 500)
            assert decides.stats.failures == 3
    finally:
        redis.go_on()
        await shared.close()


async def test_two_servers_that_share_a_counter_have_one_limit(
    limits: Open, redis: RedisServer
) -> None:
    """A limit is not evaded by asking another server."""
    one, other = await limits(OnFailure.DENY), await limits(OnFailure.DENY)
    assert await take(one) == [(True, Count.WHOLE)]
    assert await take(other) == [(True, Count.WHOLE)]
    for decides in (one, other):
        assert await take(decides) == [(False, Count.WHOLE)]
