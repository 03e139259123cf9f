"""What every counter promises: the port's docstring, sentence by sentence.

A counter's own test is a class that inherits `CounterContract` and gives it a `harness`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfence_server.adapters.clock import SystemClock
from keyfence_server.adapters.rate_limits.memory import MemoryCounter
from keyfence_server.adapters.rate_limits.redis import InvalidCounterUrl, RedisCounter
from keyfence_server.application.ports import Clock
from keyfence_server.application.rate_limits import CounterUnavailable, RateCounter, Window
from keyfence_server.domain.limits import Limit, Rate, Subject
from support.clock import FrozenClock
from support.redis import RedisServer


def a_limit(requests: int, seconds: int = 3_600, name: str = "a") -> Limit:
    rate = Rate(requests, timedelta(seconds=seconds))
    return Limit(Subject.KEY, f"{name}/{seconds}", rate)


class Harness(Protocol):
    """A counter, and the time that it counts by."""

    counter: RateCounter
    clock: Clock

    async def let_end(self, limit: Limit) -> None:
        """Returns when a window of this limit that began before is over."""
        ...


class CounterContract:
    """What each counter keeps."""

    @pytest.fixture
    def harness(self) -> Harness:
        raise AssertionError("a class that inherits the contract must give a harness")

    async def test_nothing_is_used_of_a_limit_before_its_first_use(self, harness: Harness) -> None:
        _, (window,) = await harness.counter.take([a_limit(3)], 0)
        assert window.used == 0
        assert window.ends_at == pytest.approx(harness.clock.timestamp(), abs=2)

    async def test_as_many_pass_as_are_allowed_and_not_one_more(self, harness: Harness) -> None:
        limit = a_limit(3)
        outcomes = [await harness.counter.take([limit], 1) for _ in range(5)]
        assert [stopped_by for stopped_by, _ in outcomes] == [None, None, None, 0, 0]
        assert [windows[0].used for _, windows in outcomes] == [1, 2, 3, 3, 3]

    async def test_looking_uses_nothing_up(self, harness: Harness) -> None:
        limit = a_limit(1)
        for _ in range(3):
            await harness.counter.take([limit], 0)
        assert (await harness.counter.take([limit], 1))[0] is None
        assert [window.used for window in (await harness.counter.take([limit], 0))[1]] == [1]

    async def test_a_window_ends_its_length_after_its_first_use(self, harness: Harness) -> None:
        limit = a_limit(2, 3_600)
        began = harness.clock.timestamp()
        for _ in range(2):
            _, (window,) = await harness.counter.take([limit], 1)
            assert window.ends_at == pytest.approx(began + 3_600, abs=5)

    async def test_after_its_window_a_limit_is_whole_again(self, harness: Harness) -> None:
        limit = a_limit(2, 1)
        for _ in range(3):
            await harness.counter.take([limit], 1)
        await harness.let_end(limit)
        assert [window.used for window in (await harness.counter.take([limit], 0))[1]] == [0]
        assert (await harness.counter.take([limit], 2))[0] is None

    async def test_what_costs_more_than_is_left_is_stopped_and_uses_nothing_up(
        self, harness: Harness
    ) -> None:
        limit = a_limit(10)
        assert (await harness.counter.take([limit], 7))[0] is None
        stopped_by, (window,) = await harness.counter.take([limit], 4)
        assert (stopped_by, window.used) == (0, 7)
        assert (await harness.counter.take([limit], 3))[0] is None

    async def test_what_does_not_fit_one_limit_is_counted_against_none(
        self, harness: Harness
    ) -> None:
        key, account = a_limit(10, name="key"), a_limit(1, name="account")
        assert (await harness.counter.take([key, account], 1))[0] is None
        stopped_by, windows = await harness.counter.take([key, account], 1)
        assert stopped_by == 1
        assert [window.used for window in windows] == [1, 1]
        stopped_by, windows = await harness.counter.take([account, key], 1)
        assert stopped_by == 0
        assert [window.used for window in windows] == [1, 1]

    async def test_limits_of_different_names_are_counted_apart(self, harness: Harness) -> None:
        for name in ("a", "b", "a b", "a:b", "a/b"):
            assert (await harness.counter.take([a_limit(1, name=name)], 1))[0] is None

    async def test_many_at_once_pass_no_more_than_are_allowed(self, harness: Harness) -> None:
        limit = a_limit(20)
        outcomes = await asyncio.gather(*(harness.counter.take([limit], 1) for _ in range(60)))
        assert sum(stopped_by is None for stopped_by, _ in outcomes) == 20

    async def test_many_at_once_under_several_limits_pass_no_more_either(
        self, harness: Harness
    ) -> None:
        limits = [a_limit(20, name="key"), a_limit(30, name="account")]
        outcomes = await asyncio.gather(*(harness.counter.take(limits, 1) for _ in range(60)))
        assert sum(stopped_by is None for stopped_by, _ in outcomes) == 20


class MemoryHarness:
    def __init__(self) -> None:
        self.clock = FrozenClock()
        self.counter = MemoryCounter(self.clock)

    async def let_end(self, limit: Limit) -> None:
        self.clock.advance(limit.rate.window)


class TestMemory(CounterContract):
    """This process's memory keeps the contract."""

    @pytest.fixture
    def harness(self) -> MemoryHarness:
        return MemoryHarness()

    async def test_what_is_over_is_forgotten(self, harness: MemoryHarness) -> None:
        """The memory is bounded by what is in use, however many there have been."""
        for number in range(20_000):
            await harness.counter.take([a_limit(1, 60, str(number))], 1)
            harness.clock.advance(timedelta(seconds=1))
        assert len(harness.counter) <= 1_024

    async def test_a_clock_that_is_put_back_does_not_make_a_window_longer(
        self, harness: MemoryHarness
    ) -> None:
        limit = a_limit(1, 60)
        await harness.counter.take([limit], 1)
        harness.clock.advance(timedelta(days=-1))
        _, (window,) = await harness.counter.take([limit], 1)
        assert window.ends_at <= harness.clock.timestamp() + 60

    @given(
        limit=st.integers(1, 8),
        seconds=st.integers(1, 5),
        steps=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=40),
    )
    def test_it_is_a_model_of_itself(
        self, limit: int, seconds: int, steps: list[tuple[int, int]]
    ) -> None:
        """Against the plainest description of a fixed window, step by step."""
        clock = FrozenClock()
        counter = MemoryCounter(clock)
        used, ends_at = 0, 0.0

        async def play() -> None:
            nonlocal used, ends_at
            for wait, cost in steps:
                now = clock.advance(timedelta(seconds=wait)).timestamp()
                if now >= ends_at:
                    used = 0
                stopped_by, (window,) = await counter.take([a_limit(limit, seconds)], cost)
                if used + cost > limit:
                    assert stopped_by == 0
                else:
                    assert stopped_by is None
                    ends_at = now + seconds if used == 0 else ends_at
                    used += cost
                assert window == Window(used, ends_at if used else now)

        asyncio.run(play())


class RedisHarness:
    def __init__(self, url: str) -> None:
        self.clock = SystemClock()
        self.counter = RedisCounter(url, 5)

    async def let_end(self, limit: Limit) -> None:
        for _ in range(2_000):
            if not (await self.counter.take([limit], 0))[1][0].used:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the window does not end")


class TestRedis(CounterContract):
    """A real Redis keeps the contract."""

    @pytest.fixture
    async def harness(self, redis: RedisServer) -> AsyncIterator[RedisHarness]:
        harness = RedisHarness(redis.url)
        yield harness
        await harness.counter.close()

    async def test_several_counters_count_as_one(
        self, harness: RedisHarness, redis: RedisServer
    ) -> None:
        """A limit is not evaded by asking several servers in turn."""
        others = [RedisCounter(redis.url, 5) for _ in range(3)]
        limit = a_limit(25)
        outcomes = await asyncio.gather(
            *(counter.take([limit], 1) for counter in others for _ in range(20))
        )
        assert sum(stopped_by is None for stopped_by, _ in outcomes) == 25
        for counter in others:
            await counter.close()

    async def test_a_counter_that_is_gone_is_told(
        self, harness: RedisHarness, redis: RedisServer
    ) -> None:
        limit = a_limit(5)
        await harness.counter.take([limit], 1)
        redis.stop()
        with pytest.raises(CounterUnavailable):
            await harness.counter.take([limit], 1)
        with pytest.raises(CounterUnavailable):
            await harness.counter.take([limit], 0)
        redis.start()
        assert (await harness.counter.take([limit], 1))[0] is None


async def test_a_connection_that_redis_has_closed_is_no_outage(redis: RedisServer) -> None:
    """Redis closes idle connections after its `timeout`, and a check may come later."""
    counter = RedisCounter(redis.url, 5)
    limit = a_limit(5)
    try:
        for used in range(1, 4):
            _, (window,) = await counter.take([limit], 1)
            assert window.used == used
            redis.close_connections()
    finally:
        await counter.close()


async def test_a_counter_that_does_not_answer_keeps_no_check_waiting(redis: RedisServer) -> None:
    counter = RedisCounter(redis.url, 0.1)
    await counter.take([a_limit(5)], 1)
    redis.hold()
    try:
        async with asyncio.timeout(5):
            with pytest.raises(CounterUnavailable):
                await counter.take([a_limit(5)], 1)
    finally:
        redis.go_on()
        await counter.close()


@pytest.mark.parametrize("url", ["", "memory://", "localhost:6379", "http://localhost", "redis"])
def test_an_address_where_no_counter_can_be_is_refused(url: str) -> None:
    with pytest.raises(InvalidCounterUrl, match="must begin"):
        RedisCounter(url, 1)


async def test_a_failure_never_shows_the_password() -> None:
    counter = RedisCounter("redis://user:canary-password@127.0.0.1:1/0", 1)
    with pytest.raises(CounterUnavailable) as caught:
        await counter.take([a_limit(1)], 1)
    assert "canary" not in repr(caught.value) + str(caught.value)
    assert caught.value.__cause__ is None
    await counter.close()
