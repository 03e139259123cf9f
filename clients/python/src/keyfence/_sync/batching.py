"""Sends the checks of several threads in batches.

One batch is under way at a time, and the checks that come meanwhile wait for the next one. So a
lone check is sent at once, by its own thread, and the more checks there are, the more share a
message. A full batch does not wait. It has a twin of the same shape in `keyfence._async`; this one
is written by hand too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from keyfence import rpcs
from keyfence._batching import WaitingCheck, answer_all, fail, request_of, secrets_of, too_late
from keyfence._sync.transport import Transport
from keyfence.results import CheckResult, ScopeCheck
from keyfence.v1 import authorization_service_pb2 as authorization


class Batcher:
    """Answers checks by batches. Safe under threads.

    Args:
        max_checks: the most checks of one message.
    """

    def __init__(self, transport: Transport, max_checks: int) -> None:
        self._transport = transport
        self._max_checks = max_checks
        self._lock = threading.Lock()
        self._waiting: list[WaitingCheck] = []
        self._is_sending = False

    def check(
        self, check: ScopeCheck, request: authorization.CheckScopeRequest, timeout_seconds: float
    ) -> CheckResult:
        """Sends the check with others.

        Raises:
            CallFailed: the call for this check's batch failed, or the server answered this check
                with an error.
            ClientClosed: see there.
        """
        # A client of another process fails here, before it joins a batch.
        self._transport.open(rpcs.BATCH_CHECK_SCOPE)
        answer: Future[CheckResult] = Future()
        deadline = time.monotonic() + timeout_seconds
        one = WaitingCheck(check, request, deadline, answer)
        with self._lock:
            is_alone = not self._is_sending
            self._is_sending = True
            if not is_alone:
                self._waiting.append(one)
                if len(self._waiting) >= self._max_checks:
                    _start(self._send, self._take())
        if is_alone:
            try:
                self._send([one])
            finally:
                # Also when the call is interrupted, for example by Ctrl-C.
                self._send_the_rest()
        try:
            return answer.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            answer.cancel()
            failure = too_late(timeout_seconds)
        raise failure

    def _take(self) -> list[WaitingCheck]:
        batch = self._waiting[: self._max_checks]
        del self._waiting[: self._max_checks]
        return batch

    def _send_the_rest(self) -> None:
        """Has another thread send what came meanwhile: the caller has its answer."""
        with self._lock:
            if self._waiting:
                _start(self._send_in_turn)
            else:
                self._is_sending = False

    def _send_in_turn(self) -> None:
        while True:
            with self._lock:
                batch = self._take()
                if not batch:
                    self._is_sending = False
                    return
            self._send(batch)

    def _send(self, batch: list[WaitingCheck]) -> None:
        # A check whose caller has stopped waiting is not sent. From here on, none can be withdrawn.
        batch = [one for one in batch if one.answer.set_running_or_notify_cancel()]
        if not batch:
            return
        # The deadline is the latest of all: one caller's must not fail the checks of others.
        timeout_seconds = max(0.0, max(one.deadline for one in batch) - time.monotonic())
        try:
            response = self._transport.call(
                rpcs.BATCH_CHECK_SCOPE, request_of(batch), timeout_seconds, secrets_of(batch)
            )
            answer_all(batch, response)
        except Exception as error:  # noqa: BLE001 - the callers raise it
            fail(batch, error)


def _start(work: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=work, args=arguments, name="keyfence-batches", daemon=True).start()
