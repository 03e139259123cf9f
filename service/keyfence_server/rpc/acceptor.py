"""A gRPC server whose loop survives a path that is not UTF-8.

The loop of `grpc.aio` decodes the path of a call that matches no registered RPC, and ends
with the first path that cannot be decoded: one request without a credential stops the
server. No setting prevents it. Here gRPC's core compares paths byte by byte with those of the
registered RPCs, and every other call is refused without looking at its path.

The rest is gRPC's own: it reads the message, runs the handler and sends the answer. One task
takes the calls of one RPC, because gRPC's loop waits anew on one future for each RPC with
every call.

`docs/reports/grpc-path-crash.md` has the reproduction, ready to be reported. When gRPC has
fixed it, `grpc.aio.server` can replace this module.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, Self

import grpc

# gRPC's compiled core has no types, and these names are not public. They are read here, once,
# so that a version without one of them fails at the import.
_core: Final[Any] = importlib.import_module("grpc._cython.cygrpc")
_AioServer: Final[Any] = _core.AioServer
_handle_rpc: Final[Any] = _core._handle_rpc  # noqa: SLF001
_schedule: Final[Any] = _core._schedule_rpc_coro  # noqa: SLF001

# After the core has ended all calls, their tasks have a few steps to go.
_LAST_STEPS_SECONDS: Final = 1.0


class Acceptor(_AioServer):  # type: ignore[misc]
    """The server of gRPC's core, with accepting tasks of its own.

    Args:
        handlers: by the RPCs' full names, "/package.Service/Method".
        unknown: answers every other RPC: a stream-stream handler.
        max_open_calls: calls open at the same time, streams included. gRPC refuses further
            calls with RESOURCE_EXHAUSTED.
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
        *,
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
        # gRPC's loop asks for the next call of each RPC, and with None for the next call of
        # an unregistered path. Each task takes calls itself until the server shuts down, which
        # ends it with an error that the loop knows.
        if method is None:
            next_call, handler, name = self._request_call, self._unknown, "(unknown)"
        else:
            next_call = partial(self._request_registered_call, method)
            handler, name = self._handlers[method], method.decode()
        # gRPC asks for the handler of each call, which is known before the call arrives.
        resolver = SimpleNamespace(resolve_handler=lambda _details: handler)
        return self._event_loop.create_task(self._accept(next_call, resolver, name))

    async def _accept(
        self, next_call: Callable[[], Awaitable[Any]], resolver: SimpleNamespace, name: str
    ) -> None:
        loop, open_calls = self._event_loop, self._open_calls
        while True:
            call = await next_call()
            is_full = len(open_calls) >= self._max_open_calls
            answering = _handle_rpc(name, resolver, (), call, loop, is_full)
            task = loop.create_task(_schedule(answering, call, loop, name))
            # The loop keeps only a weak reference to a task.
            open_calls.add(task)
            task.add_done_callback(open_calls.discard)

    async def stop(self, grace_seconds: float | None) -> None:
        """Takes no more calls, and returns when those under way have ended.

        Args:
            grace_seconds: how long they have; None for not at all.
        """
        await self.shutdown(grace_seconds)
        if self._open_calls:
            await asyncio.wait(self._open_calls, timeout=_LAST_STEPS_SECONDS)
