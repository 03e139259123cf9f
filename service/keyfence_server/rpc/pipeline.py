"""What every call goes through, put together once for each RPC when the server starts.

    slot -> credential -> scope -> decode -> misplaced keys -> handler -> encode -> count

gRPC's interceptors would do the same in layers, each with its own coroutine, around
calls whose own work is a few microseconds. So here each RPC becomes one coroutine,
and everything that does not depend on the call is decided beforehand. What an RPC
demands of its caller is read off its descriptor; one that declares nothing keeps
the server from starting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, Final, NoReturn

import grpc
import structlog
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message

from keyfence._holder.dial import LET_IN
from keyfence.v1 import options_pb2
from keyfence_server.application import mutations, staleness
from keyfence_server.application.callers import Anonymous, Caller, Callers, Operator
from keyfence_server.application.ports import StoreUnavailable
from keyfence_server.domain.errors import DomainError, Unauthenticated
from keyfence_server.domain.system import SYSTEM_KEYSPACE
from keyfence_server.rpc import request_ids
from keyfence_server.rpc.gate import Gate
from keyfence_server.rpc.log_limit import LogLimit
from keyfence_server.rpc.misplaced_keys import MisplacedKeys, has_open_texts
from keyfence_server.rpc.origins import Origins
from keyfence_server.rpc.stats import MethodStats, RpcStats
from keyfence_server.rpc.status import UNDECODABLE, Failure, failure_of, internal_failure
from keyfence_server.rpc.tracing import Tracing

Metadata = Iterable[tuple[str, str | bytes]]
Context = grpc.aio.ServicerContext[Any, Any]
Handler = Callable[..., Awaitable[Message]]
FastHandler = Callable[[Any, Caller], bytes | None]
RawHandler = Callable[[bytes, Context], Awaitable[bytes]]
RawStreamHandler = Callable[[object, Context], Awaitable[None]]

_ACCESS_WITHOUT_SCOPE: Final = (options_pb2.ACCESS_ANY_CREDENTIAL, options_pb2.ACCESS_PUBLIC)
_LET_IN: Final = ((LET_IN, "yes"),)
_BEARER: Final = "bearer "
_ALERTS_PER_SECOND: Final = 10
_REFUSALS_PER_SECOND: Final = 10

_log = structlog.get_logger("keyfence.rpc")


@dataclass(frozen=True, slots=True)
class StreamCall:
    """A call that streams both ways, as its handler has it.

    Attributes:
        read: the next request; None when the caller says no more.
        write: sends a response. Not twice at once.
        reidentify: who calls, as of now. Raises `Unauthenticated` when the credential passes no
            more, and `Forbidden` when it may not make this call any more.
        let_in: tells the caller that it is served, before anything is said. It may have to
            give something up first, and does so only for a server that has let it in.
            Raises `DomainError` if the server is about to stop.
    """

    read: Callable[[], Awaitable[Any | None]]
    write: Callable[[Any], Awaitable[None]]
    reidentify: Callable[[], Awaitable[Caller]]
    let_in: Callable[[], Awaitable[None]]


StreamHandler = Callable[[StreamCall, Caller], Awaitable[None]]


class UndeclaredAccess(Exception):
    """An RPC does not say who may call it, or says what cannot be."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """What an RPC demands of its caller, as its descriptor says.

    Attributes:
        scope: the scope of keyspace `system` that an operator needs; None for none.
        has_side_effects: whether the call changes anything.
        access: who may call besides, as `keyfence.v1.Access` has it.
    """

    scope: str | None
    has_side_effects: bool
    access: int = options_pb2.ACCESS_UNSPECIFIED

    @property
    def needs_credential(self) -> bool:
        """Whether a call without a credential is refused."""
        return self.access != options_pb2.ACCESS_PUBLIC


@dataclass(frozen=True, slots=True)
class Service:
    """A service and what answers its RPCs.

    Attributes:
        handlers: by the RPC's name.
        stream_handlers: those of RPCs that stream both ways, likewise.
        requirements: of RPCs whose descriptor is not ours to say so in, by name.
        from_memory: what is asked before an RPC's handler, likewise: the encoded answer,
            if there is one that needs nobody to be waited for.
        checks: the names of those RPCs that may be answered to a caller whose credential may
            have been revoked, where an operator has asked for stale answers. They say so.
        given_metadata: the names of those RPCs whose handlers are given the call's metadata,
            besides the request and the caller.
    """

    descriptor: ServiceDescriptor
    handlers: Mapping[str, Handler]
    stream_handlers: Mapping[str, StreamHandler] = field(default_factory=dict)
    requirements: Mapping[str, Requirement] = field(default_factory=dict)
    from_memory: Mapping[str, FastHandler] = field(default_factory=dict)
    checks: frozenset[str] = frozenset()
    given_metadata: frozenset[str] = frozenset()


def read_requirement(method: MethodDescriptor) -> Requirement:
    """Reads what an RPC demands.

    Raises:
        UndeclaredAccess: nothing, or a scope that keyspace `system` does not register.
    """
    options = method.GetOptions()
    scope = options.Extensions[options_pb2.required_scope] or None
    access = options.Extensions[options_pb2.access]
    if scope is None and access not in _ACCESS_WITHOUT_SCOPE:
        raise UndeclaredAccess(f"{method.full_name} declares neither a scope nor open access")
    if scope is not None and scope not in SYSTEM_KEYSPACE.catalog:
        raise UndeclaredAccess(f'{method.full_name} requires "{scope}", which is not registered')
    return Requirement(
        scope=scope,
        has_side_effects=(
            options.idempotency_level != descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS
        ),
        access=access,
    )


class Pipeline:
    """Makes handlers for gRPC out of handlers that know nothing of it."""

    def __init__(
        self,
        callers: Callers,
        gate: Gate,
        stats: RpcStats,
        misplaced_keys: MisplacedKeys,
        tracing: Tracing | None = None,
        origins: Origins | None = None,
    ) -> None:
        self._callers = callers
        self._misplaced_keys = misplaced_keys
        self._origins = origins or Origins()
        self._gate = gate
        self._stats = stats
        self._tracing = tracing
        self._alerts = LogLimit(_ALERTS_PER_SECOND)
        # Whoever has a credential must not be able to hide what those do who have none.
        self._refusals = LogLimit(_REFUSALS_PER_SECOND)

    def method_handlers(
        self, services: Iterable[Service]
    ) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """The handlers of all RPCs of the services, by the RPCs' full names.

        Raises:
            UndeclaredAccess: an RPC does not say who may call it.
            LookupError: an RPC has no handler.
        """
        return {
            f"/{service.descriptor.full_name}/{method.name}": self._handler_of(service, method)
            for service in services
            for method in service.descriptor.methods
        }

    def _handler_of(
        self, service: Service, method: MethodDescriptor
    ) -> grpc.RpcMethodHandler[Any, Any]:
        name = f"/{service.descriptor.full_name}/{method.name}"
        stats = self._stats.methods.setdefault(name, MethodStats())
        failures = _Failures(name, stats, self._callers, self._alerts, self._refusals)
        requirement = service.requirements.get(method.name) or read_requirement(method)
        if method.client_streaming and method.server_streaming:
            stream_handler = service.stream_handlers[method.name]
            return grpc.stream_stream_rpc_method_handler(
                self._run_stream(name, method, stream_handler, requirement, stats, failures)
            )
        if method.client_streaming or method.server_streaming:
            raise UndeclaredAccess(f"{name} streams one way, which this pipeline does not")
        handler = service.handlers[method.name]
        fast = service.from_memory.get(method.name, _not_from_memory)
        run = self._run(
            name,
            method,
            handler,
            fast,
            requirement,
            stats,
            failures,
            is_check=method.name in service.checks,
            given_metadata=method.name in service.given_metadata,
        )
        return grpc.unary_unary_rpc_method_handler(
            self._tracing.traced(name, run) if self._tracing is not None else run
        )

    def _run_stream(
        self,
        name: str,
        method: MethodDescriptor,
        handler: StreamHandler,
        requirement: Requirement,
        stats: MethodStats,
        failures: _Failures,
    ) -> RawStreamHandler:
        """Streams live long, so they are not among the calls under way: whoever handles
        them bounds them."""
        authorize = _authorizer(requirement, name)
        decode = message_factory.GetMessageClass(method.input_type).FromString
        identify, recall = self._callers.identify, self._callers.recall
        address_of = self._origins.address_of
        gate = self._gate

        async def run(_: object, context: Context) -> None:
            started = perf_counter()
            # Now and never later: gRPC crashes when it is asked about a call that has ended.
            connection = context.peer()
            await failures.refuse(context, gate.refusal, started)
            metadata = context.invocation_metadata() or ()
            caller: Caller | None = None

            async def read() -> Message | None:
                raw = await context.read()
                return None if raw is grpc.aio.EOF else decode(raw)

            async def write(response: Message) -> None:
                await context.write(response.SerializeToString())

            def peer() -> str:
                return address_of(connection, metadata)

            async def reidentify() -> Caller:
                nonlocal caller
                # As for a check: memory alone can tell, nearly every time.
                caller = recall(credential, peer) or await identify(credential, peer=peer)
                authorize(caller)
                return caller

            async def let_in() -> None:
                if gate.refusal is not None:
                    raise DomainError(gate.refusal.message, reason=gate.refusal.reason)
                await context.send_initial_metadata(_LET_IN)

            try:
                credential = credential_in(metadata)
                let_in_as = await reidentify()
                _require_fresh()
                await handler(StreamCall(read, write, reidentify, let_in), let_in_as)
            except Exception as error:  # noqa: BLE001 - whatever it is has to become a status
                await failures.answer(context, connection, error, started, caller)
            stats.succeeded.add(perf_counter() - started)

        return run

    def _run(
        self,
        name: str,
        method: MethodDescriptor,
        handler: Handler,
        fast: FastHandler,
        requirement: Requirement,
        stats: MethodStats,
        failures: _Failures,
        *,
        is_check: bool,
        given_metadata: bool,
    ) -> RawHandler:
        authorize = _authorizer(requirement, name)
        # A mutation is told its request id in any case, is audited and logged under it.
        # Anything else gets one when it fails: making and sending it costs a check more
        # than all else that is done here.
        mutates = requirement.has_side_effects
        decode = message_factory.GetMessageClass(method.input_type).FromString
        identify = self._callers.identify
        is_open, scope = not requirement.needs_credential, requirement.scope
        address_of = self._origins.address_of
        recall = self._callers.recall
        gate = self._gate
        succeeded = stats.succeeded
        # Of what a check says nothing is kept, and it has its key in a field for keys.
        is_looked_through = not is_check and has_open_texts(method.input_type)
        refuse_misplaced = self._misplaced_keys.refuse

        async def run(raw: bytes, context: Context) -> bytes:
            caller: Caller | None = None
            request_id: str | None
            started = perf_counter()
            # Now and never later: gRPC crashes when it is asked about a call that has ended, and
            # a mutation goes on when its caller has gone.
            connection = context.peer()
            if gate.refusal is not None or gate.under_way >= gate.limit:
                await failures.refuse(context, gate.why_not(), started)
            gate.under_way += 1
            try:
                metadata = context.invocation_metadata() or ()

                def peer() -> str:
                    return address_of(connection, metadata)

                request_id = None
                if mutates:
                    request_id = request_ids.request_id_of(metadata)
                    context.set_trailing_metadata(((request_ids.HEADER, request_id),))
                if is_open and (scope is None or not carries_credential(metadata)):
                    caller = Anonymous(request_id=request_id, peer=peer)
                else:
                    credential = credential_in(metadata)
                    # Memory alone can answer nearly every check. It is asked first, without
                    # a coroutine for each step, which would cost as much as the step.
                    recalled = None if mutates else recall(credential, peer)
                    if recalled is not None:
                        caller = recalled
                    else:
                        if not mutates:
                            request_id = request_ids.find_request_id(metadata)
                        caller = await identify(credential, request_id=request_id, peer=peer)
                    if not is_check:
                        _require_fresh()
                authorize(caller)
                request = decode(raw)
                if is_looked_through:
                    await refuse_misplaced(request, caller)
                answer = fast(request, caller)
                if answer is None:
                    if caller.request_id is None:
                        request_id = request_ids.find_request_id(metadata)
                        caller = replace(caller, request_id=request_id)
                    given = (metadata,) if given_metadata else ()
                    answer = (await handler(request, caller, *given)).SerializeToString()
            except Exception as error:  # noqa: BLE001 - whatever it is has to become a status
                await failures.answer(context, connection, error, started, caller)
            except asyncio.CancelledError:
                stats.add_failure(grpc.StatusCode.CANCELLED, perf_counter() - started)
                raise
            finally:
                gate.under_way -= 1
            seconds = perf_counter() - started
            succeeded.add(seconds)
            if mutates and mutations.has_committed():
                _log.info(
                    "mutation_done",
                    method=name,
                    request_id=request_id,
                    caller_key_id=caller.credential_id,
                    seconds=round(seconds, 6),
                )
            return answer

        return run


def _not_from_memory(_request: object, _caller: Caller) -> None:
    """Answers nothing."""


def _require_fresh() -> None:
    """Only checks may be answered to a caller whose credential may be revoked."""
    if staleness.is_noted():
        raise StoreUnavailable("the store cannot be reached to learn who calls")


def carries_credential(metadata: Metadata) -> bool:
    """Whether a call says who sends it, be it rightly or not."""
    return any(name == "authorization" for name, _ in metadata)


def credential_in(metadata: Metadata) -> str:
    """The credential of a call; empty if there is none.

    Raises:
        Unauthenticated: there are several. Which of them some other program in the way
            has looked at cannot be known, so none of them counts.
    """
    credential = ""
    found = False
    for name, value in metadata:
        if name == "authorization":
            if found:
                raise Unauthenticated(
                    "the call carries more than one credential; send one", cause="SEVERAL"
                )
            found = True
            if isinstance(value, str) and value[: len(_BEARER)].lower() == _BEARER:
                # As at the edge: RFC 9110 has at least one space there.
                credential = value[len(_BEARER) :].strip(" ")
    return credential


def _authorizer(requirement: Requirement, name: str) -> Callable[[Caller], None]:
    """What raises `Forbidden` for a caller that may not call the RPC."""
    scope = requirement.scope
    if scope is None or not requirement.needs_credential:
        return lambda _: None
    if requirement.access == options_pb2.ACCESS_OPERATOR_OR_ACCOUNT:
        return lambda caller: caller.require_key_management(scope, method=name)
    if requirement.access == options_pb2.ACCESS_OPERATOR_OR_SESSION:
        return lambda caller: caller.require_account_management(scope, method=name)
    wanted = SYSTEM_KEYSPACE.catalog.required_mask([scope])

    def authorize(caller: Caller) -> None:
        # The common case in a few instructions; the slow way finds out what to say.
        if not (type(caller) is Operator and caller.facts.effective & wanted):
            caller.require_scope(scope, method=name)

    return authorize


class _Failures:
    """Answers, counts and logs the calls of one RPC that end with an error status."""

    def __init__(
        self,
        method: str,
        stats: MethodStats,
        callers: Callers,
        alerts: LogLimit,
        refusals: LogLimit,
    ) -> None:
        self._method = method
        self._stats = stats
        self._callers = callers
        self._alerts = alerts
        self._refusals = refusals

    async def refuse(self, context: Context, failure: Failure | None, started: float) -> None:
        """Ends the call with the failure, if there is one."""
        if failure is not None:
            request_id = _request_id(context)
            self._log_refusal(failure, request_id, None)
            await self._abort(context, failure, request_id, started)

    async def answer(
        self,
        context: Context,
        connection: str,
        error: Exception,
        started: float,
        caller: Caller | None = None,
    ) -> NoReturn:
        """Ends the call with the status that the error stands for.

        Args:
            connection: the peer that gRPC named when the call arrived.
            caller: None: it is not known who called.
        """
        request_id = _request_id(context)
        if isinstance(error, DomainError | StoreUnavailable):
            failure = failure_of(error)
        elif isinstance(error, DecodeError):
            failure = UNDECODABLE
        else:
            failure = internal_failure(request_id)
        if caller is not None and failure.code is grpc.StatusCode.PERMISSION_DENIED:
            self._callers.note_forbidden(caller, failure.reason, self._method, request_id)
        self._log(error, failure, request_id, connection, caller)
        await self._abort(context, failure, request_id, started)

    async def _abort(
        self, context: Context, failure: Failure, request_id: str, started: float
    ) -> NoReturn:
        self._stats.add_failure(failure.code, perf_counter() - started)
        status = failure.to_status()
        details: tuple[tuple[str, str | bytes], ...] = tuple(status.trailing_metadata or ())
        await context.abort(
            status.code, status.details, (*details, (request_ids.HEADER, request_id))
        )

    def _log(
        self,
        error: Exception,
        failure: Failure,
        request_id: str,
        connection: str,
        caller: Caller | None,
    ) -> None:
        # The message of an error repeats what the caller sent, so it stays out of the log.
        about = {"method": self._method, "request_id": request_id}
        if failure.reason == "INTERNAL":
            _log.error("internal_error", **about, exc_info=error)
        elif isinstance(error, Unauthenticated):
            if self._alerts.admits():
                _log.warning("credential_rejected", **about, cause=error.cause, peer=connection)
        elif isinstance(error, StoreUnavailable):
            # The watch over the store, or over the lease, has said why.
            _log.debug("call_without_store", **about, error=str(error))
        else:
            self._log_refusal(failure, request_id, caller)

    def _log_refusal(self, failure: Failure, request_id: str, caller: Caller | None) -> None:
        if self._refusals.admits():
            _log.info(
                "call_refused",
                method=self._method,
                reason=failure.reason,
                request_id=request_id,
                caller_key_id=caller.credential_id if caller is not None else None,
            )


def _request_id(context: Context) -> str:
    # A mutation has been given one already.
    for name, value in context.trailing_metadata() or ():
        if name == request_ids.HEADER:
            return str(value)
    return request_ids.request_id_of(context.invocation_metadata() or ())
