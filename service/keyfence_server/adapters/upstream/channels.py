"""Connections to the servers upstream, one at a time.

The stream that keeps the lease and the questions that fill memory go to the same
server, so that what is asked is never behind what was told. When a server goes away,
the next one is tried.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message

from keyfence._connection import Connection, Tls
from keyfence._holder.session import GrpcStream, StreamBroken
from keyfence._tokens import checked_token
from keyfence.v1 import replication_service_pb2 as messages
from keyfence_server.application.ports import StoreUnavailable

Response = TypeVar("Response", bound=Message)

_SERVICE: Final = "/keyfence.v1.ReplicationService"
_CALL_SECONDS: Final = 2.0
_CONNECT_SECONDS: Final = 2.0


class Upstream:
    """The servers upstream.

    Args:
        targets: at least one, in gRPC's syntax. Each sidecar starts at another one, if
            whoever gives the targets shuffles them.
        token: this sidecar's own credential, or the path of a file that holds it.
    """

    def __init__(
        self,
        targets: Sequence[str],
        *,
        token: str | os.PathLike[str] | None,
        tls: Tls | None,
        insecure_plaintext: bool,
    ) -> None:
        self._connections = [
            Connection.resolve(
                target,
                token=token,
                tls=tls,
                insecure_plaintext=insecure_plaintext,
                check_timeout_seconds=_CALL_SECONDS,
                timeout_seconds=_CALL_SECONDS,
                environment=os.environ,
            )
            for target in targets
        ]
        self._next = 0
        self._current: tuple[Connection, grpc.aio.Channel] | None = None

    @property
    def target(self) -> str:
        """The server that is talked to now."""
        return self._open()[0].target

    async def open_stream(self) -> GrpcStream:
        """A new `Sync` call, to the next server that can be reached. Raises `StreamBroken`."""
        connection = self._connections[self._next % len(self._connections)]
        self._next += 1
        channel = _channel(connection)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await channel.channel_ready()
            metadata = await _credential(connection)
        except BaseException as error:
            await channel.close()
            if isinstance(error, TimeoutError):
                raise StreamBroken(f"{connection.target} cannot be reached") from None
            raise
        before, self._current = self._current, (connection, channel)
        if before is not None:
            await before[1].close()
        call = channel.stream_stream(
            f"{_SERVICE}/Sync",
            request_serializer=messages.SyncRequest.SerializeToString,
            response_deserializer=messages.SyncResponse.FromString,
        )(metadata=metadata)
        return GrpcStream(call, (grpc.aio.AioRpcError, grpc.aio.UsageError, ValueError))

    async def fetch_facts(self, request: messages.FetchFactsRequest) -> messages.FetchFactsResponse:
        """Raises `StoreUnavailable`."""
        return await self._call("FetchFacts", request, messages.FetchFactsResponse)

    async def fetch_keyspaces(
        self, request: messages.FetchKeyspacesRequest
    ) -> messages.FetchKeyspacesResponse:
        """Raises `StoreUnavailable`."""
        return await self._call("FetchKeyspaces", request, messages.FetchKeyspacesResponse)

    async def close(self) -> None:
        """Ends the connection."""
        if self._current is not None:
            await self._current[1].close()
            self._current = None

    def _open(self) -> tuple[Connection, grpc.aio.Channel]:
        if self._current is None:
            # Nobody was reached yet. The first one may be, by the time of the call.
            self._current = (self._connections[0], _channel(self._connections[0]))
        return self._current

    async def _call(self, name: str, request: Message, response_type: type[Response]) -> Response:
        connection, channel = self._open()
        call: Any = channel.unary_unary(
            f"{_SERVICE}/{name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response_type.FromString,
        )
        try:
            response: Response = await call(
                request, timeout=_CALL_SECONDS, metadata=await _credential(connection)
            )
        except (grpc.aio.AioRpcError, grpc.aio.UsageError) as error:
            code = error.code().name if isinstance(error, grpc.aio.AioRpcError) else "closed"
            # What the other side says is not repeated: it may quote the request.
            raise StoreUnavailable(f"the server upstream does not answer: {code}") from None
        return response


def _channel(connection: Connection) -> grpc.aio.Channel:
    if connection.tls is None:
        return grpc.aio.insecure_channel(connection.target, options=connection.options())
    return grpc.aio.secure_channel(
        connection.target, connection.tls.credentials(), options=connection.options()
    )


async def _credential(connection: Connection) -> tuple[tuple[str, str], ...]:
    if connection.token is None:
        return ()
    token = connection.token()
    text = await token if inspect.isawaitable(token) else token
    return (("authorization", f"Bearer {checked_token(text)}"),)
