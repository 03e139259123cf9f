"""Long work on the event loop leaves room for short calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import TypeVarTuple

import pytest

from keyfence_server.application.pauses import (
    GRACE_SECONDS,
    QUIET_SECONDS,
    SHORTEST_PAUSE_SECONDS,
    Pauses,
    Slices,
)

Ts = TypeVarTuple("Ts")

TURNS = 20
SLICE_SECONDS = QUIET_SECONDS / 4


class Clock:
    """A clock that goes on by what a slice is said to take, and never by itself."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def work(slices: Slices, clock: Clock, done: list[float], count: int) -> None:
    """Runs so many slices, and notes the time at the beginning of each."""
    for _ in range(count):
        await slices.turn()
        done.append(clock.now)
        clock.now += SLICE_SECONDS


async def some_turns() -> None:
    """What a check needs of the event loop."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def test_of_all_work_one_slice_runs_in_a_turn_of_the_event_loop() -> None:
    clock, done = Clock(), list[float]()
    slices = Slices(asyncio.get_running_loop(), clock)
    tasks = [asyncio.create_task(work(slices, clock, done, 3)) for _ in range(5)]
    most = before = 0
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        most, before = max(most, len(done) - before), len(done)
    assert most == 1
    assert len(done) == 15


async def timers() -> None:
    """Lets what is due at once, by the event loop's own clock, happen several times."""
    for _ in range(5):
        await asyncio.sleep(2 * GRACE_SECONDS)


async def after_one_slice_of_two() -> tuple[Slices, Clock, list[float], asyncio.Task[None]]:
    """Work of two slices, of which the first has run, a moment after a call."""
    clock, done = Clock(), list[float]()
    slices = Slices(asyncio.get_running_loop(), clock)
    slices.note_call()
    task = asyncio.create_task(work(slices, clock, done, 2))
    await some_turns()
    assert done == [100.0]
    return slices, clock, done, task


async def test_after_a_slice_a_call_has_as_much_time_as_the_slice_took() -> None:
    slices, clock, done, task = await after_one_slice_of_two()
    clock.now += GRACE_SECONDS / 2
    slices.note_call()
    clock.now += SLICE_SECONDS - GRACE_SECONDS
    await timers()
    assert done == [100.0]
    clock.now += GRACE_SECONDS
    await task
    assert len(done) == 2


async def test_where_no_call_follows_a_slice_the_next_one_waits_but_a_moment() -> None:
    _, clock, done, task = await after_one_slice_of_two()
    clock.now += GRACE_SECONDS / 2
    await timers()
    assert done == [100.0]
    clock.now += GRACE_SECONDS
    await task
    assert len(done) == 2


async def test_without_calls_slices_follow_one_another_at_once() -> None:
    clock, done = Clock(), list[float]()
    slices = Slices(asyncio.get_running_loop(), clock)
    task = asyncio.create_task(work(slices, clock, done, 5))
    await some_turns()
    assert len(done) == 5
    await task


async def test_work_that_is_given_up_keeps_no_other_from_its_turn() -> None:
    clock, done = Clock(), list[float]()
    slices = Slices(asyncio.get_running_loop(), clock)
    given_up = asyncio.create_task(work(slices, clock, [], 1))
    task = asyncio.create_task(work(slices, clock, done, 2))
    await asyncio.sleep(0)
    given_up.cancel()
    await task
    assert len(done) == 2


async def test_work_pauses_whenever_it_has_done_a_slice() -> None:
    pauses, turns = Pauses(10), 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    for _ in range(9):
        await pauses.after()
    assert turns == 0
    await pauses.after()
    assert turns > 0
    counting.cancel()


class Timers(asyncio.SelectorEventLoop):
    """An event loop whose timers are due at once: a clock goes on instead.

    Attributes:
        seconds: for how long timers were set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.seconds: list[float] = []

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        self.seconds.append(delay)
        self.clock.now += delay
        return super().call_later(0, callback, *args, context=context)


def timers_of_slices(slice_seconds: float) -> list[float]:
    """The timers that are set while slices of this length run, and a call arrives in each."""
    with asyncio.Runner(loop_factory=Timers) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, Timers)

        async def run() -> None:
            slices = Slices(loop, loop.clock)
            for _ in range(5):
                await slices.turn()
                loop.clock.now += slice_seconds
                slices.note_call()

        runner.run(run())
        return loop.seconds


@pytest.mark.parametrize("slice_seconds", [0.0006, 0.0008, 0.0026])
def test_a_pause_is_one_timer_of_whole_milliseconds(slice_seconds: float) -> None:
    """A shorter timer is none for uvloop, so that the pause would keep the processor busy."""
    assert set(timers_of_slices(slice_seconds)) == {0.001}


def test_after_a_very_short_slice_there_is_no_pause() -> None:
    assert timers_of_slices(SHORTEST_PAUSE_SECONDS * 0.9) == []
