"""A client that keeps some calls in flight, and what they took."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import grpc

from bench.processes import ServerProcess

# Nothing is encoded or decoded here, so that only the servers' work differs.
Send = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Call:
    """A call to repeat.

    Attributes:
        method: its full name.
        requests: encoded, to be sent in turn, and again from the first.
        is_expected: whether an answer, encoded, is right. None: every answer is.
    """

    method: str
    requests: tuple[bytes, ...]
    is_expected: Callable[[bytes], bool] | None = None

    def verify(self, answers: Iterable[bytes]) -> None:
        """Raises `RuntimeError` if an answer is not the right one."""
        if self.is_expected is None:
            return
        for answer in answers:
            if not self.is_expected(answer):
                raise RuntimeError(f"{self.method} was answered with {answer!r}")


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of calls took.

    Attributes:
        cpu_microseconds: of the server's processor time, a call.
        calls_per_second: with so many in flight as there were.
        median_microseconds: from sending a call to having its answer, at the client.
    """

    cpu_microseconds: float
    calls_per_second: float
    median_microseconds: float


async def run_round(server: ServerProcess, call: Call, *, calls: int, in_flight: int) -> Round:
    """Sends the calls, and says what they took. Every call must be answered with OK, and as
    expected."""
    metadata = [("authorization", f"Bearer {server.token}")] if server.token else None
    requests = itertools.cycle(call.requests)
    async with grpc.aio.insecure_channel(server.target) as channel:
        send: Send = channel.unary_unary(call.method)
        await asyncio.gather(*(send(next(requests), metadata=metadata) for _ in range(in_flight)))
        waits: list[float] = []
        answers: list[bytes] = []

        async def one_after_the_other() -> None:
            for _ in range(calls // in_flight):
                sent = time.perf_counter()
                answers.append(await send(next(requests), metadata=metadata))
                waits.append(time.perf_counter() - sent)

        cpu, began = server.cpu_seconds(), time.perf_counter()
        await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))
        seconds, used = time.perf_counter() - began, server.cpu_seconds() - cpu
    call.verify(answers)
    return Round(
        cpu_microseconds=used / len(waits) * 1e6,
        calls_per_second=len(waits) / seconds,
        median_microseconds=statistics.median(waits) * 1e6,
    )


def run_in_turn(
    asked: Sequence[tuple[ServerProcess, Call]], *, rounds: int, calls: int, in_flight: int
) -> list[list[Round]]:
    """Asks each server in turn, in so many rounds behind one that warms up.

    Returns:
        The rounds of each, in the order of `asked`.
    """
    took: list[list[Round]] = [[] for _ in asked]
    for number in range(rounds + 1):
        for (server, call), results in zip(asked, took, strict=True):
            one = asyncio.run(run_round(server, call, calls=calls, in_flight=in_flight))
            if number:
                results.append(one)
    return took


async def answers_to(server: ServerProcess, call: Call) -> list[bytes]:
    """The answers to its requests, one after another."""
    metadata = [("authorization", f"Bearer {server.token}")] if server.token else None
    async with grpc.aio.insecure_channel(server.target) as channel:
        send: Send = channel.unary_unary(call.method)
        return [await send(request, metadata=metadata) for request in call.requests]
