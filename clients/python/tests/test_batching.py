"""Checks that are under way at the same time share messages, and each has its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from clients.python.tests.authority import Authority, Failure, Hold, a_principal, allowed
from clients.python.tests.conftest import Caller
from keyfence import (
    AsyncClient,
    Batching,
    CheckResult,
    Client,
    ClientClosed,
    DeadlineExceeded,
    PermissionDenied,
    UnknownScope,
)
from keyfence.v1 import authorization_service_pb2 as messages

CANARY = "kf_live_canary_7f3a9c"


def each_by_itself(request: messages.BatchCheckScopeRequest) -> messages.BatchCheckScopeResponse:
    """Allows every key, and names it in the principal; "kf_live_unknown" asks for a scope that is
    not registered."""
    results = []
    for check in request.checks:
        if check.api_key == "kf_live_unknown":
            error = messages.CheckError(
                code=grpc.StatusCode.INVALID_ARGUMENT.value[0],
                reason="UNKNOWN_SCOPE",
                message="no such scope",
                metadata={"scope": "vps:raed"},
            )
            results.append(messages.BatchCheckScopeResult(error=error))
        else:
            answer = allowed(principal=a_principal(key_id=check.api_key))
            results.append(messages.BatchCheckScopeResult(response=answer))
    return messages.BatchCheckScopeResponse(results=results)


@pytest.fixture
async def batched(authority: Authority, kind: Any) -> AsyncIterator[Caller]:
    caller = Caller(kind, authority.target, token="kf_system_token", batching=Batching())
    yield caller
    await caller("close")


@pytest.fixture
def gate() -> asyncio.Event:
    return asyncio.Event()


def check(caller: Caller, key: str, **more: Any) -> asyncio.Task[CheckResult]:
    return asyncio.ensure_future(caller("check_scope", key, "vps:read", **more))


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not happened():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.001)


async def under_way(authority: Authority, count: int = 1) -> None:
    await until(lambda: len(sizes(authority)) >= count)


async def waiting(caller: Caller, count: int) -> None:
    await until(lambda: len(caller.client._batcher._waiting) == count)


def sizes(authority: Authority) -> list[int]:
    return [len(one.request.checks) for one in authority.attempts_of("BatchCheckScope")]


async def test_a_lone_check_is_sent_at_once(batched: Caller, authority: Authority) -> None:
    assert await check(batched, "kf_live_a")
    assert sizes(authority) == [1]


async def test_checks_that_come_while_a_batch_is_under_way_share_the_next(
    batched: Caller, authority: Authority, gate: asyncio.Event
) -> None:
    authority.answer("BatchCheckScope", Hold(gate, each_by_itself), each_by_itself)
    first = check(batched, "kf_live_0")
    await under_way(authority)
    others = [check(batched, f"kf_live_{number}") for number in range(1, 5)]
    await waiting(batched, 4)
    gate.set()
    answers = await asyncio.gather(first, *others)
    principals = [answer.principal for answer in answers]
    assert [one.key_id for one in principals if one] == [f"kf_live_{number}" for number in range(5)]
    assert sizes(authority) == [1, 4]


async def test_the_fault_of_one_check_is_its_own(
    batched: Caller, authority: Authority, gate: asyncio.Event
) -> None:
    authority.answer("BatchCheckScope", Hold(gate, each_by_itself), each_by_itself)
    first = check(batched, "kf_live_0")
    await under_way(authority)
    faulty, good = check(batched, "kf_live_unknown"), check(batched, "kf_live_1")
    await waiting(batched, 2)
    gate.set()
    with pytest.raises(UnknownScope) as caught:
        await faulty
    assert caught.value.scope == "vps:raed"
    assert await good
    assert await first


async def test_the_failure_of_a_call_is_that_of_each_check_and_shows_no_key(
    batched: Caller, authority: Authority, gate: asyncio.Event
) -> None:
    refusal = Failure(grpc.StatusCode.PERMISSION_DENIED, f"not for {CANARY}", "PERMISSION_DENIED")
    authority.answer("BatchCheckScope", Hold(gate, each_by_itself), refusal)
    first = check(batched, "kf_live_0")
    await under_way(authority)
    others = [check(batched, CANARY), check(batched, "kf_live_1")]
    await waiting(batched, 2)
    gate.set()
    one, other = await asyncio.gather(*others, return_exceptions=True)
    assert isinstance(one, PermissionDenied)
    assert isinstance(other, PermissionDenied)
    assert one is not other
    assert CANARY not in str(one) + str(other)
    assert await first


async def test_a_full_batch_does_not_wait(
    authority: Authority, kind: Any, gate: asyncio.Event
) -> None:
    batched = Caller(kind, authority.target, token="t" * 30, batching=Batching(max_checks=2))
    authority.answer("BatchCheckScope", Hold(gate, each_by_itself), each_by_itself)
    first = check(batched, "kf_live_0")
    await under_way(authority)
    assert all(await asyncio.gather(check(batched, "kf_live_1"), check(batched, "kf_live_2")))
    assert not first.done()
    gate.set()
    assert await first
    assert sizes(authority) == [1, 2]
    await batched("close")


async def test_a_check_whose_caller_has_given_up_is_not_sent_and_fails_no_other(
    batched: Caller, authority: Authority, gate: asyncio.Event
) -> None:
    authority.answer("BatchCheckScope", Hold(gate, each_by_itself), each_by_itself)
    first = check(batched, "kf_live_0")
    await under_way(authority)
    hasty, patient = check(batched, "kf_live_1", timeout_seconds=0.05), check(batched, "kf_live_2")
    with pytest.raises(DeadlineExceeded, match=r"0\.05 s"):
        await hasty
    gate.set()
    assert await patient
    assert await first
    assert [one.api_key for one in authority.last.request.checks] == ["kf_live_2"]


async def test_a_hasty_caller_does_not_shorten_the_deadline_of_the_others(
    batched: Caller, authority: Authority, gate: asyncio.Event
) -> None:
    held = asyncio.Event()
    authority.answer("BatchCheckScope", Hold(gate, each_by_itself), Hold(held, each_by_itself))
    first = check(batched, "kf_live_0", timeout_seconds=20)
    await under_way(authority)
    hasty = check(batched, "kf_live_1", timeout_seconds=0.2)
    patient = check(batched, "kf_live_2", timeout_seconds=20)
    await waiting(batched, 2)
    gate.set()
    with pytest.raises(DeadlineExceeded):
        await hasty
    _, still_waiting = await asyncio.wait([patient], timeout=0.3)
    assert still_waiting
    held.set()
    assert await patient
    assert await first


async def test_closing_the_client_ends_the_checks_that_wait(
    batched: Caller, authority: Authority, gate: asyncio.Event
) -> None:
    authority.answer("BatchCheckScope", Hold(gate, each_by_itself))
    checks = [check(batched, "kf_live_0", timeout_seconds=20)]
    await under_way(authority)
    checks.append(check(batched, "kf_live_1", timeout_seconds=20))
    await waiting(batched, 1)
    await batched("close")
    ends = await asyncio.gather(*checks, return_exceptions=True)
    assert [type(end) for end in ends] == [ClientClosed, ClientClosed]
    gate.set()


async def test_a_large_check_is_sent_alone(batched: Caller, authority: Authority) -> None:
    """A very long key could otherwise fail the other checks in the same message."""
    assert await check(batched, "kf_live_" + "a" * 2_000)
    assert [one.method for one in authority.attempts] == ["CheckScope"]


async def test_a_check_that_did_not_fit_the_answer_is_asked_alone(
    batched: Caller, authority: Authority
) -> None:
    left_out = messages.CheckError(
        code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0],
        reason="LIMIT_REACHED",
        metadata={"limit": "answer_bytes"},
    )
    authority.answer(
        "BatchCheckScope",
        messages.BatchCheckScopeResponse(results=[messages.BatchCheckScopeResult(error=left_out)]),
    )
    assert await check(batched, "kf_live_0")
    assert [one.method for one in authority.attempts] == ["BatchCheckScope", "CheckScope"]


@pytest.mark.parametrize("max_checks", [0, 257])
def test_a_batch_has_1_to_256_checks(max_checks: int) -> None:
    with pytest.raises(ValueError, match="1 to 256"):
        Batching(max_checks=max_checks)


async def test_a_check_of_another_event_loop_joins_no_batch(authority: Authority) -> None:
    client = AsyncClient(authority.target, token="t" * 30, batching=Batching())
    assert await client.check_scope("kf_live_0", "vps:read")
    with pytest.raises(ClientClosed, match="event loop"):
        await asyncio.to_thread(asyncio.run, client.check_scope("kf_live_1", "vps:read"))
    await client.close()


async def test_a_check_that_is_interrupted_leaves_no_batch_waiting_for_ever(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the thread that sends ends its own check, and no later one."""
    with Client(authority.target, token="kf_system_token", batching=Batching()) as client:

        def interrupted(*_arguments: Any) -> Any:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(client._transport, "call", interrupted)
            with pytest.raises(KeyboardInterrupt):
                client.check_scope(CANARY, "vps:read")
        assert await asyncio.to_thread(client.check_scope, CANARY, "vps:read", timeout_seconds=20)
