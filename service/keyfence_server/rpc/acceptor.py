"""Takes calls from gRPC's core, in place of the loop that `grpc.aio` brings.

That loop decodes the path of whatever arrives, and ends for good, and the server
with it, at the first path that is not UTF-8: one request from anybody, without a
credential, stops the service. There is no setting that keeps such a request away.

Here the core itself compares paths, byte by byte, with those of the known RPCs,
and hands over what is none of them apart from the rest, to be refused unread. As a
call's RPC is known before it arrives, taking it is also cheaper: one task takes the
calls of one RPC, where the loop makes a task to wait for each call.

A call that says what it wants and never sends its message would have its place for as
long as its client likes: some connections of such calls would be all that a server takes.
Here those give way to calls that come later, and so do calls whose clients do not take the
answers.

This rests on names in gRPC that are not public. `tests/rpc/test_server.py` has the
request that shows the fault; when gRPC has mended it, `grpc.aio.server` can come
back in the place of this.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, Final, NoReturn, Self

import grpc

from keyfence_server.rpc.floods import FloodGuard

# gRPC's compiled core has no types, and what is taken from it is not public. It is
# named here, once, so that a version without one of these names fails at the import.
_core: Final[Any] = importlib.import_module("grpc._cython.cygrpc")
_AioServer: Final[Any] = _core.AioServer
_follow_to_the_end: Final[Any] = _core._schedule_rpc_coro  # noqa: SLF001
_message_of: Final[Any] = _core._receive_message  # noqa: SLF001
_finish_unary: Final[Any] = _core._finish_handler_with_unary_response  # noqa: SLF001
_finish_stream: Final[Any] = _core._finish_handler_with_stream_responses  # noqa: SLF001
_context_of: Final[Any] = _core._ServicerContext  # noqa: SLF001

# A message comes with its call, so hardly any call is waited for, unless somebody means it.
# From so many on their metadata is looked at: until a client has confirmed the server's
# settings, gRPC takes megabytes of it.
_FEW_WAITING: Final = 16

# What HTTP/2 counts for each field besides its name and value (RFC 9113, 6.5.2).
_BYTES_PER_FIELD: Final = 32

# By then a client that means well has taken its answer, or made room for it.
_TAKEN_SECONDS: Final = 1.0

# After the core has ended all calls, their tasks have a few steps to go.
_LAST_STEPS_SECONDS: Final = 1.0

# Until a call that ended without a message is told so. Nearly all such calls were given up
# by their clients, and there is news of that by then.
_GIVEN_UP_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """What calls are told that are not taken.

    Attributes:
        no_message: they ended without their message.
        gave_way: they had not sent their message when others needed the place.
        no_room: there were too many already, and none could be ended for them.
        large_metadata: with more metadata than is allowed.
    """

    no_message: grpc.Status
    gave_way: grpc.Status
    no_room: grpc.Status
    large_metadata: grpc.Status


class Acceptor(_AioServer):  # type: ignore[misc]
    """The core's server with accepting tasks of its own.

    Args:
        handlers: by the RPCs' full names, "/package.Service/Method".
        unknown: what answers every other RPC: a stream-stream handler.
        refusals: what other calls are told that are not taken.
        max_open_calls: calls open at the same time, those included that have not sent
            their message yet. Beyond it, for each that comes the one of these that came
            first is told to give way; without any, one whose answer is not taken is
            ended; without any of those, calls are refused.
        max_metadata_bytes: a call's metadata, as HTTP/2 counts them.
        floods: is told of each call that ends.
        options: the core's channel arguments.
    """

    def __new__(cls, *_args: object, **_named: object) -> Self:
        """Makes the core's part, which takes its arguments later, in `__init__`."""
        made: Self = _AioServer.__new__(cls)
        return made

    def __init__(
        self,
        handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]],
        unknown: grpc.RpcMethodHandler[Any, Any],
        refusals: Refusals,
        *,
        max_open_calls: int,
        max_metadata_bytes: int,
        floods: FloodGuard,
        options: Sequence[tuple[str, int]],
    ) -> None:
        self._event_loop: Final = asyncio.get_running_loop()
        super().__init__(self._event_loop, None, (), (), tuple(options), None)
        self._handlers: Final = {name.encode(): handler for name, handler in handlers.items()}
        self._unknown: Final = unknown
        self._refusals: Final = refusals
        self._max_open_calls: Final = max_open_calls
        self._max_metadata_bytes: Final = max_metadata_bytes
        self._floods: Final = floods
        # The tasks that follow each to its end.
        self._open_calls: Final[dict[Any, asyncio.Task[None]]] = {}
        # The contexts of those whose message has not come, the oldest first.
        self._waiting: Final[dict[Any, None]] = {}
        # Those of these that are being refused, by tasks that end with an `AbortError`.
        self._giving_way: Final[dict[Any, asyncio.Task[NoReturn]]] = {}
        # The calls whose answers are being sent, the oldest first: by which task, since when.
        self._sending: Final[dict[Any, tuple[asyncio.Task[Any], float]]] = {}
        self.add_registered_method_handlers(dict(handlers))

    def _make_request_call_future(self, method: bytes | None) -> asyncio.Task[None]:
        # gRPC's loop asks for the next call of each RPC, and with None for the next call
        # of any other. It gets a task that takes calls itself, and that ends, by an error
        # that the loop knows, when the server shuts down.
        if method is None:
            return self._event_loop.create_task(
                self._accept(self._request_call, self._unknown, "(unknown)")
            )
        handler = self._handlers[method]
        return self._event_loop.create_task(
            self._accept(lambda: self._request_registered_call(method), handler, method.decode())
        )

    async def _accept(
        self,
        next_call: Callable[[], Awaitable[Any]],
        handler: grpc.RpcMethodHandler[Any, Any],
        name: str,
    ) -> None:
        loop = self._event_loop
        open_calls = self._open_calls
        decode, encode = handler.request_deserializer, handler.response_serializer
        while True:
            call = await next_call()
            context = _context_of(call, decode, encode, loop)
            peer = context.peer()
            if self._floods.has_dismissed(peer):
                # Once nobody has it any more, the core resets it.
                del call, context
                continue
            if len(open_calls) < self._max_open_calls or self._make_room():
                answering = self._answer(handler, call, context, loop)
            else:
                self._floods.excuse(context)
                answering = _refuse(context, self._refusals.no_room)
            task = loop.create_task(_follow_to_the_end(answering, call, loop, name))
            # The loop keeps only a weak reference to a task.
            open_calls[call] = task
            task.add_done_callback(partial(self._ended, call, context, peer))

    def _ended(self, call: Any, context: Any, peer: str, _task: object) -> None:
        del self._open_calls[call]
        self._floods.ended(context, peer)

    async def stop(self, grace_seconds: float | None) -> None:
        """Takes no more calls, and returns when those under way have ended.

        Args:
            grace_seconds: how long they have; None for not at all.
        """
        await self.shutdown(grace_seconds)
        if self._open_calls:
            await asyncio.wait(self._open_calls.values(), timeout=_LAST_STEPS_SECONDS)

    async def _answer(
        self,
        handler: grpc.RpcMethodHandler[Any, Any],
        call: Any,
        context: Any,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Answers a call, as the core does. Where it has one message, sees to it that it comes."""
        request: Any = None
        if handler.request_streaming:
            # The handler reads the messages from the context.
            stream: Any = handler.stream_stream
        else:
            if len(self._waiting) >= _FEW_WAITING and _bytes_of(context) > self._max_metadata_bytes:
                await _refuse(context, self._refusals.large_metadata)
            message = await self._message(call, context, loop)
            decode: Callable[[bytes], Any] | None = handler.request_deserializer
            request = message if decode is None else decode(message)
            stream = handler.unary_stream
        if handler.response_streaming:
            await _finish_stream(call, stream, request, context, loop)
        else:
            run: Any = handler.unary_unary
            response = await run(request, context)
            this: Any = asyncio.current_task()
            self._sending[call] = this, monotonic()
            try:
                await _finish_unary(
                    call, _given, response, context, handler.response_serializer, loop
                )
            finally:
                self._sending.pop(call, None)
        # Some RPCs need no credential.
        self._floods.excuse(context)

    async def _message(self, call: Any, context: Any, loop: asyncio.AbstractEventLoop) -> bytes:
        """The call's message, unless it is refused or given up before it has come."""
        self._waiting[context] = None
        try:
            # This is never cancelled from here: what the core has received would be lost.
            message: bytes | None = await _message_of(call, loop)
            if message is None and context not in self._giving_way:
                await asyncio.sleep(_GIVEN_UP_SECONDS)
        finally:
            self._waiting.pop(context, None)
            refusing = self._giving_way.get(context)
            if refusing is not None:
                # The call must not end under it.
                await asyncio.wait([refusing])
                del self._giving_way[context]
                refused = None if refusing.cancelled() else refusing.exception()
        if refusing is not None:
            raise refused or asyncio.CancelledError
        if message is None:
            await _refuse(context, self._refusals.no_message)
        return message

    def _make_room(self) -> bool:
        """Has the call give way whose message has been waited for the longest.

        Without any, ends the call whose client has not taken the answer for the longest.
        """
        context = next(iter(self._waiting), None)
        if context is None:
            return self._end_not_taken()
        del self._waiting[context]
        self._giving_way[context] = self._event_loop.create_task(
            _refuse(context, self._refusals.gave_way)
        )
        return True

    def _end_not_taken(self) -> bool:
        call = next(iter(self._sending), None)
        if call is None:
            return False
        sending, since = self._sending[call]
        if monotonic() - since < _TAKEN_SECONDS:
            return False
        del self._sending[call]
        # Without its tasks nobody has the call any more, and the core resets it.
        sending.cancel()
        self._open_calls[call].cancel()
        return True


async def _given(response: Any, _context: object) -> Any:
    return response


def _bytes_of(context: Any) -> int:
    return sum(
        len(name) + len(value) + _BYTES_PER_FIELD for name, value in context.invocation_metadata()
    )


async def _refuse(context: Any, status: grpc.Status) -> NoReturn:
    try:
        await context.abort_with_status(status)
    except _core.ExecuteBatchError:
        # The client has gone meanwhile, and need not be told.
        raise asyncio.CancelledError from None
    raise AssertionError("refusing a call ends it")
