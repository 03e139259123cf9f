"""Sends RPCs over an asynchronous channel.

With `keyfence._aio`, the one place of the asynchronous client that knows `grpc.aio`. It has a
twin of the same shape, written by hand, in `keyfence._sync`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import grpc

from keyfence._aio import current_token, open_channel, was_cancelled
from keyfence._failures import error_from_call
from keyfence._tokens import AsyncToken, bearer, token_source
from keyfence.connection import Connection
from keyfence.errors import CallFailed, ClientClosed
from keyfence.rpcs import Request, Response, Rpc


class AsyncTransport:
    """A channel that opens at its first call, in the event loop that makes it."""

    def __init__(
        self,
        connection: Connection,
        *,
        opener: AsyncTransport | None = None,
        client_address: str | None = None,
    ) -> None:
        self._connection = connection
        self._channel: grpc.aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process_id = 0
        self._calls: dict[str, Any] = {}
        self.is_closed = False
        # Of a transport that presents another credential: the transport whose channel it uses.
        self._opener = opener
        self._metadata = (("x-forwarded-for", client_address),) if client_address else ()

    def acting_as(self, token: AsyncToken | None, client_address: str | None) -> AsyncTransport:
        """A transport on the same channel that presents another credential, or none."""
        source = None if token is None else token_source(token)
        return AsyncTransport(
            replace(self._connection, token=source),
            opener=self._opener or self,
            client_address=client_address,
        )

    async def call(
        self,
        rpc: Rpc[Request, Response],
        request: Request,
        timeout_seconds: float,
        secrets: tuple[str, ...],
    ) -> Response:
        """Sends a request and returns the answer.

        Args:
            secrets: what the request has in it that no error may show.

        Raises:
            CallFailed: there was no answer.
            ClientClosed: see there.
        """
        opener = self._opener or self
        call = opener.open(rpc)
        token = await current_token(self._connection)
        metadata: tuple[tuple[str, str], ...] = self._metadata
        if token is not None:
            metadata = (bearer(token), *metadata)
        failure: CallFailed
        try:
            response: Response = await call(
                request, timeout=timeout_seconds, metadata=metadata or None
            )
        except grpc.aio.AioRpcError as error:
            failure = error_from_call(error, (token or "", *secrets), timeout_seconds)
        except (grpc.aio.UsageError, asyncio.CancelledError):
            if not opener.is_closed or was_cancelled():
                raise
            raise ClientClosed("the client was closed during the call") from None
        else:
            return response
        # Raised outside the handler, so that gRPC's own error is not its context: gRPC's
        # error contains the server's message without redaction.
        raise failure

    def open(self, rpc: Rpc[Request, Response]) -> Any:
        """The RPC, to be called. Raises `ClientClosed`."""
        if self.is_closed:
            raise ClientClosed("the client is closed")
        if self._channel is None:
            self._process_id = os.getpid()
            self._loop = asyncio.get_running_loop()
            self._channel = open_channel(self._connection)
        elif self._process_id != os.getpid():
            raise ClientClosed("the client was used before a fork: create one in each process")
        elif self._loop is not asyncio.get_running_loop():
            raise ClientClosed("the client belongs to another event loop: create one in each")
        call = self._calls.get(rpc.path)
        if call is None:
            call = self._calls[rpc.path] = self._channel.unary_unary(
                rpc.path, request_serializer=rpc.serialize, response_deserializer=rpc.deserialize
            )
        return call

    def may_be_used(self) -> bool:
        """Whether calls can be sent from this process: none was before it was forked."""
        return self._channel is None or self._process_id == os.getpid()

    async def wait_for(self, what: Callable[[], None]) -> None:
        """Does something that blocks, out of the event loop's way."""
        await asyncio.to_thread(what)

    async def close(self) -> None:
        """Ends the calls under way and the connection. Closing twice is fine."""
        if self._opener is not None:
            return
        self.is_closed = True
        channel, self._channel = self._channel, None
        self._calls.clear()
        if channel is not None and self._process_id == os.getpid():
            await channel.close()
