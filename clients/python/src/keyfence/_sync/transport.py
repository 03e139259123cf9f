"""Sends RPCs over a synchronous channel.

The one place of the synchronous client that knows gRPC's threads. It has a twin of
the same shape in `keyfence._async`; this one is written by hand too.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import grpc

from keyfence._failures import error_from_call
from keyfence._tokens import Token, bearer, checked_token, token_source
from keyfence.connection import Connection
from keyfence.errors import CallFailed, ClientClosed
from keyfence.rpcs import Request, Response, Rpc


class Transport:
    """A channel that opens at its first call. Safe under threads."""

    def __init__(
        self,
        connection: Connection,
        *,
        opener: Transport | None = None,
        client_address: str | None = None,
    ) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._process_id = 0
        self._calls: dict[str, Any] = {}
        self.is_closed = False
        # Of a transport that presents another credential: the transport whose channel it uses.
        self._opener = opener
        self._metadata = (("x-forwarded-for", client_address),) if client_address else ()

    def acting_as(self, token: Token | None, client_address: str | None) -> Transport:
        """A transport on the same channel that presents another credential, or none."""
        source = None if token is None else token_source(token)
        return Transport(
            replace(self._connection, token=source),
            opener=self._opener or self,
            client_address=client_address,
        )

    def call(
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
        token = self._token()
        metadata: tuple[tuple[str, str], ...] = self._metadata
        if token is not None:
            metadata = (bearer(token), *metadata)
        failure: CallFailed
        try:
            response: Response = call(request, timeout=timeout_seconds, metadata=metadata or None)
        except grpc.RpcError as error:
            if opener.is_closed:
                raise ClientClosed("the client was closed during the call") from None
            failure = error_from_call(error, (token or "", *secrets), timeout_seconds)
        except ValueError:
            if not opener.is_closed:
                raise
            raise ClientClosed("the client is closed") from None
        else:
            return response
        # Raised outside the handler, so that gRPC's own error is not its context: gRPC's
        # error contains the server's message without redaction.
        raise failure

    def _token(self) -> str | None:
        if self._connection.token is None:
            return None
        return checked_token(self._connection.token())

    def open(self, rpc: Rpc[Request, Response]) -> Any:
        """The RPC, to be called. Raises `ClientClosed`."""
        call = self._calls.get(rpc.path)
        if call is not None and self._process_id == os.getpid():
            return call
        if self._channel is not None and self._process_id != os.getpid():
            # Not under the lock: a thread of the parent may have held it at the fork.
            raise ClientClosed("the client was used before a fork: make one in each process")
        with self._lock:
            if self.is_closed:
                raise ClientClosed("the client is closed")
            if self._channel is None:
                self._process_id = os.getpid()
                self._channel = self._connection.channel()
            return self._calls.setdefault(
                rpc.path,
                self._channel.unary_unary(
                    rpc.path,
                    request_serializer=rpc.serialize,
                    response_deserializer=rpc.deserialize,
                ),
            )

    def may_be_used(self) -> bool:
        """Whether calls can be sent from this process: none was before it was forked."""
        return self._channel is None or self._process_id == os.getpid()

    def wait_for(self, what: Callable[[], None]) -> None:
        """Does something that blocks."""
        what()

    def close(self) -> None:
        """Ends the calls under way and the connection. Closing twice is fine."""
        if self._opener is not None:
            return
        with self._lock:
            self.is_closed = True
            channel, self._channel = self._channel, None
            self._calls.clear()
        if channel is not None and self._process_id == os.getpid():
            channel.close()
