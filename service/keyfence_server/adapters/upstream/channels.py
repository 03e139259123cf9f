"""The servers upstream of a sidecar."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

import grpc

from keyfence import Tls, _rpcs
from keyfence._connection import Connection
from keyfence._holder.dial import Dialer
from keyfence._holder.session import GrpcStream
from keyfence._rpcs import Request, Response, Rpc
from keyfence.v1 import replication_service_pb2 as messages
from keyfence_server.application.ports import StoreUnavailable

_CALL_SECONDS: Final = 2.0


class Upstream:
    """Asks the servers upstream, and says in the store's words when they do not answer.

    Args:
        targets: at least one, in gRPC's syntax, of servers that stand for one another.
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
        self._dialer = Dialer(
            [
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
        )

    @property
    def target(self) -> str:
        """The server that is talked to now."""
        return self._dialer.target

    async def open_stream(self) -> GrpcStream:
        """A new `Sync` call. Raises `StreamBroken`."""
        return await self._dialer.open_stream()

    async def fetch_facts(self, request: messages.FetchFactsRequest) -> messages.FetchFactsResponse:
        """Raises `StoreUnavailable`."""
        return await self._ask(_rpcs.FETCH_FACTS, request)

    async def fetch_keyspaces(
        self, request: messages.FetchKeyspacesRequest
    ) -> messages.FetchKeyspacesResponse:
        """Raises `StoreUnavailable`."""
        return await self._ask(_rpcs.FETCH_KEYSPACES, request)

    async def close(self) -> None:
        """Ends the connection."""
        await self._dialer.close()

    async def _ask(self, rpc: Rpc[Request, Response], request: Request) -> Response:
        try:
            return await self._dialer.ask(rpc, request, _CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            # What the other side says is not repeated: it may quote the request.
            reason = error.code().name
        except grpc.aio.UsageError:
            reason = "the connection was closed"
        raise StoreUnavailable(f"the server upstream does not answer: {reason}")
