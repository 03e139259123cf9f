"""Sends the checks of one event loop in batches.

One batch is under way at a time, and the checks that come meanwhile wait for the next one. So a
lone check is sent at once, and the more checks there are, the more share a message. A full batch
does not wait. It has a twin of the same shape, written by hand, in `keyfence._sync`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from keyfence import rpcs
from keyfence._async.transport import AsyncTransport
from keyfence._batching import WaitingCheck, answer_all, fail, request_of, secrets_of, too_late
from keyfence.results import CheckResult, ScopeCheck
from keyfence.v1 import authorization_service_pb2 as authorization


class AsyncBatcher:
    """Answers checks by batches.

    Args:
        max_checks: the most checks of one message.
    """

    def __init__(self, transport: AsyncTransport, max_checks: int) -> None:
        self._transport = transport
        self._max_checks = max_checks
        self._waiting: list[WaitingCheck] = []
        self._is_sending = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def check(
        self, check: ScopeCheck, request: authorization.CheckScopeRequest, timeout_seconds: float
    ) -> CheckResult:
        """Sends the check with others.

        Raises:
            CallFailed: the call for this check's batch failed, or the server answered this check
                with an error.
            ClientClosed: see there.
        """
        # A client of another event loop or process fails here, before it joins a batch.
        self._transport.open(rpcs.BATCH_CHECK_SCOPE)
        answer: asyncio.Future[CheckResult] = asyncio.get_running_loop().create_future()
        deadline = time.monotonic() + timeout_seconds
        self._waiting.append(WaitingCheck(check, request, deadline, answer))
        if not self._is_sending:
            self._is_sending = True
            self._start(self._send_in_turn())
        elif len(self._waiting) >= self._max_checks:
            self._start(self._send(self._take()))
        try:
            async with asyncio.timeout(timeout_seconds):
                return await answer
        except TimeoutError:
            failure = too_late(timeout_seconds)
        raise failure

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take(self) -> list[WaitingCheck]:
        batch = self._waiting[: self._max_checks]
        del self._waiting[: self._max_checks]
        return batch

    async def _send_in_turn(self) -> None:
        try:
            while self._waiting:
                await self._send(self._take())
        finally:
            self._is_sending = False

    async def _send(self, batch: list[WaitingCheck]) -> None:
        # A check whose caller has stopped waiting is not sent.
        batch = [one for one in batch if not one.answer.done()]
        if not batch:
            return
        # The deadline is the latest of all: one caller's must not fail the checks of others.
        timeout_seconds = max(0.0, max(one.deadline for one in batch) - time.monotonic())
        try:
            response = await self._transport.call(
                rpcs.BATCH_CHECK_SCOPE, request_of(batch), timeout_seconds, secrets_of(batch)
            )
            answer_all(batch, response)
        except asyncio.CancelledError:
            for one in batch:
                one.answer.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - the callers raise it
            fail(batch, error)
