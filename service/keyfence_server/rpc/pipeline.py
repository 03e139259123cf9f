"""What every call goes through, put together once for each RPC when the server starts.

    place -> caller -> scope -> size -> decode -> number of parts -> misplaced keys
    -> handler -> encode

gRPC's interceptors would do the same in layers, each with its own coroutine, around
calls whose own work is a few microseconds. So each RPC becomes one coroutine that takes these
steps, and everything that does not depend on the call is decided beforehand.

What an RPC demands is in `requirements`, the credential in `metadata`, and how a call
fails in `failures`. Only this module, `failures` and `tracing` hold gRPC's own object of the
call; handlers and use cases get a `Call`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from keyfence.holder.dial import LET_IN, SERVER_TIME
from keyfence_server.application.callers import Anonymous, Caller
from keyfence_server.application.calls import Call
from keyfence_server.application.identify_caller import IdentifyCaller
from keyfence_server.application.pauses import note_call, pause
from keyfence_server.application.ports import Clock, StoreUnavailable
from keyfence_server.convert.fields import in_lower_case
from keyfence_server.rpc.failures import Context, Failed, Failures
from keyfence_server.rpc.gate import Gate
from keyfence_server.rpc.metadata import (
    REQUEST_ID,
    Metadata,
    carries_credential,
    credential_in,
    find_request_id,
    new_request_id,
)
from keyfence_server.rpc.misplaced_keys import MisplacedKeys, has_open_texts
from keyfence_server.rpc.origins import Origins
from keyfence_server.rpc.request_sizes import (
    LARGE_BYTES,
    WITHOUT_CREDENTIAL_BYTES,
    most_bytes_of,
    require_few_fields,
    require_size,
)
from keyfence_server.rpc.requirements import Requirement, UndeclaredAccess, read_requirement
from keyfence_server.rpc.stats import MethodStats, RpcStats
from keyfence_server.rpc.tracing import RawHandler, SpanPerCall

Handler = Callable[..., Message | Awaitable[Message]]
"""Answers a request at once, or says what to wait for. It is given the request and the caller,
and the call's metadata if its `Service` says so."""

CountCheck = Callable[[Any], None]

RawStreamHandler = Callable[[object, Context], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class StreamCall:
    """A call that streams both ways, as its handler has it.

    Attributes:
        read: waits for the next request; None when the caller has closed its side.
        write: sends a response. It must not be called twice at the same time.
        reidentify: identifies the caller again. Raises `Unauthenticated` if the credential is no
            longer valid, and `Forbidden` if the caller may no longer make this call.
        let_in: sends the headers that tell the caller that it is accepted. A caller may have to
            give up another lease first, and does so only after this. Raises `DomainError` if
            the server is about to stop.
    """

    read: Callable[[], Awaitable[Any | None]]
    write: Callable[[Any], Awaitable[None]]
    reidentify: Callable[[], Awaitable[Caller]]
    let_in: Callable[[], Awaitable[None]]


StreamHandler = Callable[[StreamCall, Caller], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Service:
    """A service, and what answers its RPCs.

    Attributes:
        servicer: has a method for each RPC, a `Handler` or a `StreamHandler`, by the RPC's name in
            lower case: `get_key` answers `GetKey`.
        requirements: for RPCs of descriptors that Keyfence cannot annotate (Envoy's), by name.
        checks: the names of the RPCs that may be answered with stale facts, also about the
            caller, where an operator has configured that. Their answers say so.
        given_metadata: the names of the RPCs whose handlers take the call's metadata, besides the
            request and the caller.
        one_at_a_time: the names of the RPCs that can take many milliseconds. Of their calls one
            of each credential runs at a time.
        counted: functions for RPCs whose requests may have many parts, by the RPCs' names. Each
            raises `InvalidInput` for a request with too many parts, before the parts are read.
    """

    descriptor: ServiceDescriptor
    servicer: object
    requirements: Mapping[str, Requirement] = field(default_factory=dict)
    checks: frozenset[str] = frozenset()
    given_metadata: frozenset[str] = frozenset()
    one_at_a_time: frozenset[str] = frozenset()
    counted: Mapping[str, CountCheck] = field(default_factory=dict)

    def handler_of(self, method: MethodDescriptor) -> Any:
        """What answers the RPC. Raises `AttributeError` if nothing does."""
        return getattr(self.servicer, in_lower_case(method.name))


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Makes handlers for gRPC out of handlers that know nothing of it."""

    _identify_caller: IdentifyCaller
    _gate: Gate
    _stats: RpcStats
    _misplaced_keys: MisplacedKeys
    _clock: Clock
    _tracing: SpanPerCall | None
    _origins: Origins

    def method_handlers(
        self, services: Iterable[Service]
    ) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """The handlers of all RPCs of the services, by the RPCs' full names.

        Raises:
            UndeclaredAccess: an RPC does not say who may call it.
            AttributeError: an RPC has no handler.
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
        failures = Failures(name, stats, self._identify_caller)
        requirement = service.requirements.get(method.name) or read_requirement(method)
        access = _Access(name, requirement, self._identify_caller, self._origins)
        if method.client_streaming and method.server_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._run_stream(method, service.handler_of(method), access, stats, failures)
            )
        if method.client_streaming or method.server_streaming:
            raise UndeclaredAccess(
                f"{name} streams in one direction, which the pipeline does not support"
            )
        run = self._run(service, method, access, stats, failures)
        return grpc.unary_unary_rpc_method_handler(
            self._tracing.traced(name, run) if self._tracing is not None else run
        )

    def _run(
        self,
        service: Service,
        method: MethodDescriptor,
        access: _Access,
        stats: MethodStats,
        failures: Failures,
    ) -> RawHandler:
        handler: Handler = service.handler_of(method)
        is_check = method.name in service.checks
        given_metadata = method.name in service.given_metadata
        is_long = method.name in service.one_at_a_time
        require_counts = service.counted.get(method.name)
        decode = message_factory.GetMessageClass(method.input_type).FromString
        response_type = message_factory.GetMessageClass(method.output_type)
        # A check's texts are not stored, and its key has a field of its own, so no check is
        # searched for misplaced keys.
        is_searched_for_keys = not is_check and has_open_texts(method.input_type)
        refuse_misplaced = self._misplaced_keys.refuse
        gate, succeeded = self._gate, stats.succeeded

        async def run(raw: bytes, context: Context) -> bytes:
            started = perf_counter()
            note_call()
            call: Call | None = None
            caller: Caller | None = None
            try:
                gate.enter()
            except Failed as refusal:
                await failures.answer(context, refusal, started, None, None)
            try:
                metadata = context.invocation_metadata() or ()
                call = access.make_call(context, metadata)
                caller = access.identify_from_memory(call, metadata)
                if caller is None:
                    with gate.waiting(""):
                        caller = await access.identify(call, metadata)
                if not is_check:
                    _require_fresh(caller)
                access.authorize(caller)
                access.require_allowed_size(raw, caller)
                if len(raw) > LARGE_BYTES:
                    await require_few_fields(raw, method.input_type)
                    await pause()
                request = decode(raw)
                if len(raw) > LARGE_BYTES:
                    # To decode it has taken some milliseconds.
                    await pause()
                if require_counts is not None:
                    require_counts(request)
                if is_searched_for_keys:
                    await refuse_misplaced(request, caller)
                answer = (
                    handler(request, caller, metadata)
                    if given_metadata
                    else handler(request, caller)
                )
                if type(answer) is not response_type:
                    answer = await _waited_for(answer, gate, caller, is_long=is_long)
                    if not is_check:
                        # A large one takes some milliseconds to encode.
                        await asyncio.sleep(0)
                encoded: bytes = answer.SerializeToString()
            except Exception as error:  # noqa: BLE001 - whatever it is has to become a status
                await failures.answer(context, error, started, call, caller)
            except asyncio.CancelledError:
                stats.add_failure(grpc.StatusCode.CANCELLED, perf_counter() - started)
                raise
            finally:
                gate.leave()
            succeeded.add(perf_counter() - started)
            return encoded

        return run

    def _run_stream(
        self,
        method: MethodDescriptor,
        handler: StreamHandler,
        access: _Access,
        stats: MethodStats,
        failures: Failures,
    ) -> RawStreamHandler:
        """Streams live long, so they take no place at the gate: their handlers bound them."""
        decode = message_factory.GetMessageClass(method.input_type).FromString
        gate, clock = self._gate, self._clock

        async def run(_: object, context: Context) -> None:
            started = perf_counter()
            call: Call | None = None
            caller: Caller | None = None

            async def read() -> Message | None:
                raw = await context.read()
                if raw is grpc.aio.EOF:
                    return None
                require_size(raw, access.most_bytes)
                return decode(raw)

            async def write(response: Message) -> None:
                await context.write(response.SerializeToString())

            async def reidentify() -> Caller:
                nonlocal caller
                assert call is not None  # noqa: S101 - the handler runs when the call has arrived
                caller = access.identify_from_memory(call, metadata) or await access.identify(
                    call, metadata
                )
                access.authorize(caller)
                return caller

            async def let_in() -> None:
                gate.require_open()
                await context.send_initial_metadata(
                    ((LET_IN, "yes"), (SERVER_TIME, f"{clock.timestamp():.3f}"))
                )

            try:
                gate.require_open()
                metadata = context.invocation_metadata() or ()
                call = access.make_call(context, metadata)
                first = await reidentify()
                _require_fresh(first)
                await handler(StreamCall(read, write, reidentify, let_in), first)
            except Exception as error:  # noqa: BLE001 - whatever it is has to become a status
                await failures.answer(context, error, started, call, caller)
            stats.succeeded.add(perf_counter() - started)

        return run


class _Access:
    """Identifies the caller of one RPC, and checks that it may call it.

    Attributes:
        authorize: raises `Forbidden` for a caller that may not call the RPC.
        most_bytes: how large a request may be.
    """

    def __init__(
        self,
        method: str,
        requirement: Requirement,
        identify_caller: IdentifyCaller,
        origins: Origins,
    ) -> None:
        self._method = method
        self._is_mutation = requirement.has_side_effects
        self._is_public = not requirement.needs_credential
        self._ignores_credential = self._is_public and requirement.scope is None
        self._identify_caller = identify_caller
        self._origins = origins
        self.authorize = requirement.authorizer(method)
        self.most_bytes: Final = most_bytes_of(method)

    def make_call(self, context: Context, metadata: Metadata) -> Call:
        """The call as plain values. For a mutation it also makes sure of a request id, and sends it
        back in the trailing metadata."""
        request_id = find_request_id(metadata)
        if self._is_mutation:
            request_id = request_id or new_request_id()
            context.set_trailing_metadata(((REQUEST_ID, request_id),))
        address = self._origins.address_of(context.peer(), metadata)
        return Call(self._method, address, request_id)

    def require_allowed_size(self, raw: bytes, caller: Caller) -> None:
        """Raises `Failed` for a request that is too large for the RPC and the caller."""
        if len(raw) > WITHOUT_CREDENTIAL_BYTES:
            is_known = caller.credential_id is not None
            require_size(raw, self.most_bytes if is_known else WITHOUT_CREDENTIAL_BYTES)

    def identify_from_memory(self, call: Call, metadata: Metadata) -> Caller | None:
        """The caller, if nothing has to be waited for. Raises `Unauthenticated`."""
        if self._is_public and (self._ignores_credential or not carries_credential(metadata)):
            return Anonymous(call=call)
        return self._identify_caller.identify_from_memory(credential_in(metadata), call)

    async def identify(self, call: Call, metadata: Metadata) -> Caller:
        """The caller. Raises `Unauthenticated`, `StoreUnavailable`."""
        return await self._identify_caller.identify(credential_in(metadata), call)


async def _waited_for(answer: Any, gate: Gate, caller: Caller, *, is_long: bool) -> Message:
    """The answer, once it is there, in a place among the credential's calls that wait."""
    credential_id = caller.credential_id or ""
    try:
        with gate.waiting(credential_id):
            if is_long:
                async with gate.turn(credential_id):
                    message: Message = await answer
            else:
                message = await answer
            return message
    finally:
        # If the gate had no place, the coroutine never started. Closing it avoids Python's warning.
        answer.close()


def _require_fresh(caller: Caller) -> None:
    """Only checks may be answered to a caller whose credential may be revoked."""
    if caller.is_stale:
        raise StoreUnavailable("the store cannot be reached, so the caller cannot be identified")
