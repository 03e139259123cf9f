"""How a call fails: its status, what is counted, and what is logged."""

from __future__ import annotations

from time import perf_counter
from typing import Any, Final, NoReturn

import grpc
import structlog
from google.protobuf.message import DecodeError

from keyfence_server.application.callers import Caller
from keyfence_server.application.calls import Call
from keyfence_server.application.identify_caller import IdentifyCaller
from keyfence_server.application.ports import StoreUnavailable
from keyfence_server.domain.errors import DomainError, Unauthenticated
from keyfence_server.rpc.metadata import REQUEST_ID, find_request_id, new_request_id
from keyfence_server.rpc.stats import MethodStats
from keyfence_server.rpc.status import UNDECODABLE, Failure, failure_of, internal_failure

Context = grpc.aio.ServicerContext[Any, Any]

_log = structlog.get_logger("keyfence.rpc")


class Failed(DomainError):
    """A call fails in a way that is decided already.

    Attributes:
        failure: what the caller is told.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message, reason=failure.reason)
        self.failure: Final = failure


class Failures:
    """Answers, counts and logs the calls of one RPC that end with an error status."""

    def __init__(self, method: str, stats: MethodStats, identify_caller: IdentifyCaller) -> None:
        self._method = method
        self._stats = stats
        self._identify_caller = identify_caller

    async def answer(
        self,
        context: Context,
        error: Exception,
        started: float,
        call: Call | None,
        caller: Caller | None,
    ) -> NoReturn:
        """Ends the call with the status that the error stands for.

        Args:
            started: when the call arrived, by `perf_counter`.
            call: None: it failed before it was looked at.
            caller: None if the caller is not known.
        """
        call = _with_request_id(call, self._method, context)
        failure = _failure_of(error, call)
        if caller is not None and failure.code is grpc.StatusCode.PERMISSION_DENIED:
            self._identify_caller.note_forbidden(caller, failure.reason, call)
        self._log(error, failure, call, caller)
        self._stats.add_failure(failure.code, perf_counter() - started)
        status = failure.to_status()
        details: tuple[tuple[str, str | bytes], ...] = tuple(status.trailing_metadata or ())
        await context.abort(
            status.code, status.details, (*details, (REQUEST_ID, call.request_id or ""))
        )

    def _log(self, error: Exception, failure: Failure, call: Call, caller: Caller | None) -> None:
        # The message of an error repeats what the caller sent, so it stays out of the log.
        about: dict[str, object] = {"method": call.method, "request_id": call.request_id}
        if failure.reason == "INTERNAL":
            _log.error("internal_error", **about, exc_info=error)
        elif isinstance(error, Unauthenticated):
            _log.warning("credential_rejected", **about, cause=error.cause, address=call.address)
        elif isinstance(error, StoreUnavailable):
            # The watch over the store, or over the lease, has said why.
            _log.debug("call_without_store", **about, error=str(error))
        else:
            caller_id = caller.credential_id if caller is not None else None
            _log.info("call_refused", **about, reason=failure.reason, caller_key_id=caller_id)


def _failure_of(error: Exception, call: Call) -> Failure:
    if isinstance(error, Failed):
        return error.failure
    if isinstance(error, DomainError | StoreUnavailable):
        return failure_of(error)
    if isinstance(error, DecodeError):
        return UNDECODABLE
    return internal_failure(call.request_id or "")


def _with_request_id(call: Call | None, method: str, context: Context) -> Call:
    if call is None:
        call = Call(method, request_id=find_request_id(context.invocation_metadata() or ()))
    return call if call.request_id else call._replace(request_id=new_request_id())
