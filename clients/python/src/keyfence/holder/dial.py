"""Connections of a holder to its grantors, one at a time.

The stream that keeps the lease and the calls that fill memory go to the same server, so that facts
are never older than the changes on the stream. When a server does not answer, the next one is
tried. The old connection stays until another server is reached.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import grpc

from keyfence._aio import current_token, open_channel, was_cancelled
from keyfence._failures import retry_after_seconds_in
from keyfence._tokens import bearer
from keyfence.connection import Connection
from keyfence.holder.grpc_stream import GrpcStream
from keyfence.holder.session import Refused, StreamBroken, Unreachable
from keyfence.rpcs import Request, Response, Rpc
from keyfence.v1 import replication_service_pb2 as messages

_CONNECT_SECONDS: Final = 2.0
_SYNC: Final = "/keyfence.v1.ReplicationService/Sync"
LET_IN: Final = "x-keyfence-let-in"
"""A header of the answer, which a refusal does not have."""
SERVER_TIME: Final = "x-keyfence-time"
"""A header beside it: the server's wall clock, in seconds since the epoch."""
_LATEST_TIME: Final = 100_000_000_000.0
_REFUSALS: Final = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
_STREAM_ERRORS: Final = (grpc.aio.AioRpcError, grpc.aio.UsageError, ValueError)


class Dialer:
    """Opens streams and sends questions, from one event loop.

    Args:
        connections: at least one. The servers are interchangeable.
    """

    def __init__(self, connections: Sequence[Connection]) -> None:
        self._connections = connections
        self._next = 0
        self.tried = connections[0]
        """The server that was tried last."""
        self.server_time: float | None = None
        """The wall clock of the server that was reached last, in seconds since the epoch, when it
        accepted the stream; None if it did not say it."""
        self._current: tuple[Connection, grpc.aio.Channel] | None = None

    @property
    def target(self) -> str:
        """The server of the present connection, or the one that is tried first."""
        return (self._current[0] if self._current else self._connections[0]).target

    async def open_stream(self) -> GrpcStream:
        """A new `Sync` call, to the next server if that lets this holder in. One that can be
        reached may still refuse it, for example while it stops. Raises `StreamBroken`."""
        self.tried = connection = self._connections[self._next % len(self._connections)]
        self._next += 1
        channel = _channel(connection)
        is_ready = False
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await channel.channel_ready()
                is_ready = True
                call = channel.stream_stream(
                    _SYNC,
                    request_serializer=messages.SyncRequest.SerializeToString,
                    response_deserializer=messages.SyncResponse.FromString,
                )(metadata=await _credential(connection))
                self.server_time = await _let_in(call)
        except BaseException as error:
            await channel.close()
            if not isinstance(error, TimeoutError):
                raise
            if not is_ready:
                raise Unreachable(f"{connection.target} cannot be reached") from None
            raise StreamBroken(
                f"{connection.target} accepts connections and does not answer streams, or a "
                f"proxy in between removes the header {LET_IN}"
            ) from None
        before, self._current = self._current, (connection, channel)
        if before is not None:
            await before[1].close()
        return GrpcStream(call, _STREAM_ERRORS)

    async def ask(
        self, rpc: Rpc[Request, Response], request: Request, timeout_seconds: float
    ) -> Response:
        """Sends a question. Raises `grpc.aio.AioRpcError`, `grpc.aio.UsageError`."""
        if self._current is None:
            # No server was reached yet. The first one may answer by the time of the call.
            self._current = (self._connections[0], _channel(self._connections[0]))
        connection, channel = self._current
        call: Any = channel.unary_unary(
            rpc.path, request_serializer=rpc.serialize, response_deserializer=rpc.deserialize
        )
        metadata = await _credential(connection)
        try:
            response: Response = await call(request, timeout=timeout_seconds, metadata=metadata)
        except asyncio.CancelledError:
            if was_cancelled():
                raise
            # The caller was not cancelled. The connection was replaced, and gRPC reports that in
            # the same way.
            raise grpc.aio.UsageError("the connection was given up") from None
        return response

    async def close(self) -> None:
        """Ends the connection."""
        current, self._current = self._current, None
        if current is not None:
            await current[1].close()


async def _let_in(call: Any) -> float | None:
    """Returns the server's time when it has accepted the call, and raises `StreamBroken` if it has
    not."""
    try:
        answered = await call.initial_metadata()
    except asyncio.CancelledError:
        if was_cancelled():
            raise
        # gRPC's way to say that the connection is gone.
        answered = ()
    if not any(name == LET_IN for name, _ in answered or ()):
        code = await call.code()
        why = f"the server refuses the stream: {code.name}"
        after = retry_after_seconds_in(await call.trailing_metadata())
        if code in _REFUSALS:
            is_known = code is grpc.StatusCode.PERMISSION_DENIED
            raise Refused(why, retry_after_seconds=after, is_known=is_known)
        raise StreamBroken(why, retry_after_seconds=after)
    return next((_seconds(value) for name, value in answered if name == SERVER_TIME), None)


def _seconds(value: str | bytes) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if 0 <= seconds < _LATEST_TIME else None


def _channel(connection: Connection) -> grpc.aio.Channel:
    # A channel of its own: a stream that lives long should not share the fate of calls.
    return open_channel(connection, [("grpc.use_local_subchannel_pool", 1)])


async def _credential(connection: Connection) -> tuple[tuple[str, str], ...]:
    token = await current_token(connection)
    return () if token is None else (bearer(token),)
