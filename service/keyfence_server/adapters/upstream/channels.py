"""The servers upstream of a sidecar."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

import grpc

from keyfence import Tls
from keyfence.connection import Connection
from keyfence.holder.clock import SystemBootClock
from keyfence.holder.dial import Dialer
from keyfence.holder.grpc_stream import GrpcStream
from keyfence.holder.session import Refused, StreamBroken, Unreachable
from keyfence.rpcs import Request, Response, Rpc
from keyfence_server.adapters.upstream.diagnosis import SIDECAR, diagnose
from keyfence_server.application.ports import StoreRefuses, StoreUnavailable

_ANSWERING: Final = float("-inf")
_REFUSALS: Final = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
_REFUSED: Final = "the server upstream does not accept this process's credential"
_GRANT: Final = (
    "Create one: keyfence keys create --keyspace system --account SERVICE --preset "
    "sidecar --bind KEYSPACE"
)
_NOT_KNOWN: Final = (
    "the server does not accept the credential in KEYFENCE_UPSTREAM_TOKEN or "
    "KEYFENCE_UPSTREAM_TOKEN_FILE: it is missing, of another installation, revoked, expired, "
    f"disabled, or not allowed from this process's address. {_GRANT}"
)
_NOT_PERMITTED: Final = (
    "the credential in KEYFENCE_UPSTREAM_TOKEN or KEYFENCE_UPSTREAM_TOKEN_FILE is valid and lacks "
    f'the scope "replication:sync", which the preset "sidecar" has. {_GRANT}'
)
_DETAILS: Final = "grpc-status-details-bin"


class OnCall(Protocol):
    """Told of each call that was made."""

    def __call__(self, rpc: str, seconds: float, *, is_answered: bool) -> None:
        """The RPC's full name, and how long it took."""


class Upstream:
    """Calls the servers upstream, and raises the store's errors when they do not answer.

    Args:
        targets: at least one target in gRPC's syntax; the servers are interchangeable.
        token: this sidecar's own credential, or the path of a file that contains it.
        on_call: called after each unary call.
        call_seconds: how long a call may take. After a call that took longer, none is made for as
            long. By default half of what clients wait for a check, so that they learn the cause.
    """

    def __init__(
        self,
        targets: Sequence[str],
        *,
        token: str | os.PathLike[str] | None,
        tls: Tls | None,
        insecure_plaintext: bool,
        on_call: OnCall,
        call_seconds: float = 1.0,
    ) -> None:
        self._on_call = on_call
        self._call_seconds = call_seconds
        self._dialer = Dialer(
            [
                Connection.resolve(
                    target,
                    token=token,
                    # A server never uses TLS on a Unix socket.
                    tls=None if target.startswith("unix:") else tls,
                    insecure_plaintext=insecure_plaintext,
                    check_timeout_seconds=call_seconds,
                    timeout_seconds=call_seconds,
                )
                for target in targets
            ]
        )
        self._broken: type[StreamBroken] | None = None
        self._advice = ""
        self._server_time: tuple[float, float] | None = None
        self._connections = 0
        self._silent_until = _ANSWERING

    @property
    def target(self) -> str:
        """The server that is talked to now."""
        return self._dialer.target

    @property
    def advice(self) -> str:
        """What an operator has to do before this process can follow a server; empty if that is
        not known, as while a server is away."""
        return self._advice

    async def server_time(self) -> datetime | None:
        """What the wall clock of the server shows now, as the server said when it accepted the
        stream; None if it has not said it."""
        if self._server_time is None:
            return None
        told, since = self._server_time
        return datetime.fromtimestamp(told + SystemBootClock().now() - since, UTC)

    async def open_stream(self) -> GrpcStream:
        """A new `Sync` call. Raises `StreamBroken`."""
        try:
            stream = await self._dialer.open_stream()
        except StreamBroken as broken:
            self._broken = type(broken)
            self._advice = await self._advice_on(broken)
            raise
        self._broken = None
        self._advice = ""
        told = self._dialer.server_time
        self._server_time = (told, SystemBootClock().now()) if told is not None else None
        self._connections += 1
        self._silent_until = _ANSWERING
        return stream

    async def _advice_on(self, broken: StreamBroken) -> str:
        if isinstance(broken, Refused):
            return _NOT_PERMITTED if broken.is_known else _NOT_KNOWN
        if isinstance(broken, Unreachable):
            return await diagnose(self._dialer.tried, SIDECAR)
        return ""

    async def close(self) -> None:
        """Ends the connection."""
        await self._dialer.close()

    async def ask(self, rpc: Rpc[Request, Response], request: Request) -> Response:
        """Calls a server. Raises `StoreUnavailable`."""
        # The stream's task keeps reconnecting, and clears this when a server answers.
        if self._broken is Unreachable:
            raise StoreUnavailable("no server upstream can be reached")
        if self._broken is Refused:
            raise StoreRefuses(_REFUSED)
        # After a call without an answer, only one call at a time probes the server. Other calls
        # fail at once instead of waiting for their whole deadline. So does the retry of a
        # check that has just waited.
        now = time.monotonic()
        if now < self._silent_until:
            raise StoreUnavailable("the server upstream did not answer the last request")
        if self._silent_until > _ANSWERING:
            self._silent_until = now + self._call_seconds
        connection = self._connections
        is_answered = False
        try:
            response = await self._dialer.ask(rpc, request, self._call_seconds)
        except grpc.aio.AioRpcError as error:
            # The server's message is not repeated: it may quote the request.
            if error.code() in _REFUSALS:
                raise StoreRefuses(_REFUSED) from None
            reason = error.code().name
            is_silent = _is_silence(error)
        except grpc.aio.UsageError:
            reason = "the connection was closed"
            is_silent = True
        else:
            is_answered = True
            self._silent_until = _ANSWERING
            return response
        finally:
            self._on_call(rpc.path, time.monotonic() - now, is_answered=is_answered)
        # The failure of a replaced connection says nothing about the new connection.
        if connection == self._connections:
            self._silent_until = time.monotonic() + self._call_seconds if is_silent else _ANSWERING
        raise StoreUnavailable(f"the server upstream does not answer: {reason}")


def _is_silence(error: grpc.aio.AioRpcError) -> bool:
    """Whether there was no answer. A server that says why it cannot answer this question may
    well answer the next one."""
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return True
    details = (name for name, _ in error.trailing_metadata() or ())
    return error.code() is grpc.StatusCode.UNAVAILABLE and _DETAILS not in details
