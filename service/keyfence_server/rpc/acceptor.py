"""Takes calls from gRPC's core, in place of the loop that `grpc.aio` brings.

That loop decodes the path of whatever arrives, and ends for good, and the server
with it, at the first path that is not UTF-8: one request from anybody, without a
credential, stops the service. There is no setting that keeps such a request away.

Here the core itself compares paths, byte by byte, with those of the known RPCs,
and hands over what is none of them apart from the rest, to be refused unread. As a
call's RPC is known before it arrives, taking it is also cheaper: one task takes the
calls of one RPC, where the loop makes a task to wait for each call.

This rests on names in gRPC that are not public. `tests/rpc/test_server.py` has the
request that shows the fault; when gRPC has mended it, `grpc.aio.server` can come
back in the place of this.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Self

import grpc

# gRPC's compiled core has no types, and what is taken from it is not public. It is
# named here, once, so that a version without one of these names fails at the import.
_core: Final[Any] = importlib.import_module("grpc._cython.cygrpc")
_AioServer: Final[Any] = _core.AioServer
_refuse_for_concurrency: Final[Any] = _core._handle_rpc  # noqa: SLF001
_follow_to_the_end: Final[Any] = _core._schedule_rpc_coro  # noqa: SLF001
_ANSWER_BY_FORM: Final[Mapping[tuple[bool, bool], Callable[..., Any]]] = {
    (False, False): _core._handle_unary_unary_rpc,  # noqa: SLF001
    (False, True): _core._handle_unary_stream_rpc,  # noqa: SLF001
    (True, False): _core._handle_stream_unary_rpc,  # noqa: SLF001
    (True, True): _core._handle_stream_stream_rpc,  # noqa: SLF001
}


class Acceptor(_AioServer):  # type: ignore[misc]
    """The core's server with accepting tasks of its own.

    Args:
        handlers: by the RPCs' full names, "/package.Service/Method".
        unknown: what answers every other RPC: a stream-stream handler.
        max_open_calls: calls open at the same time, those included that have not sent
            their message yet. Beyond it, calls are refused.
        options: the core's channel arguments.
    """

    def __new__(cls, *_args: object) -> Self:
        """Makes the core's part, which takes its arguments later, in `__init__`."""
        made: Self = _AioServer.__new__(cls)
        return made

    def __init__(
        self,
        handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]],
        unknown: grpc.RpcMethodHandler[Any, Any],
        max_open_calls: int,
        options: Sequence[tuple[str, int]],
    ) -> None:
        self._event_loop: Final = asyncio.get_running_loop()
        super().__init__(self._event_loop, None, (), (), tuple(options), None)
        self._handlers: Final = {name.encode(): handler for name, handler in handlers.items()}
        self._unknown: Final = unknown
        self._max_open_calls: Final = max_open_calls
        self._open_calls: Final[set[asyncio.Task[None]]] = set()
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
        answer = _ANSWER_BY_FORM[bool(handler.request_streaming), bool(handler.response_streaming)]
        while True:
            call = await next_call()
            if len(open_calls) < self._max_open_calls:
                answering = answer(handler, call, loop)
            else:
                answering = _refuse_for_concurrency(name, _Finds(handler), (), call, loop, True)
            task = loop.create_task(_follow_to_the_end(answering, call, loop, name))
            # The loop keeps only a weak reference to a task.
            open_calls.add(task)
            task.add_done_callback(open_calls.discard)


class _Finds:
    """Finds one handler, whatever is looked for."""

    def __init__(self, handler: grpc.RpcMethodHandler[Any, Any]) -> None:
        self._handler = handler

    def resolve_handler(self, _details: object) -> grpc.RpcMethodHandler[Any, Any]:
        return self._handler
