"""A holder's stream over `grpc.aio`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from keyfence._failures import retry_after_seconds_in
from keyfence.holder.session import StreamBroken
from keyfence.v1 import replication_service_pb2 as messages


class GrpcStream:
    """A `Sync` call of `grpc.aio`. Implements `Stream`.

    Args:
        broken_by: the errors of gRPC that mean that the stream has ended.
    """

    def __init__(self, call: Any, broken_by: tuple[type[BaseException], ...]) -> None:
        self._call = call
        self._broken_by = broken_by
        self._sending = asyncio.Lock()

    async def send(self, request: messages.SyncRequest) -> None:
        """See `Stream`."""
        try:
            # gRPC ends a call on which two messages are being sent at once.
            async with self._sending:
                await self._call.write(request)
        except self._broken_by as error:
            raise _broken(error) from None

    async def messages(self) -> AsyncIterator[messages.SyncResponse]:
        """See `Stream`."""
        try:
            async for message in self._call:
                yield message
        except self._broken_by as error:
            raise _broken(error) from None

    def close(self) -> None:
        """See `Stream`."""
        self._call.cancel()


def _broken(error: BaseException) -> StreamBroken:
    code = getattr(error, "code", None)
    trailers = getattr(error, "trailing_metadata", None)
    return StreamBroken(
        f"{code().name}" if callable(code) else type(error).__name__,
        retry_after_seconds=retry_after_seconds_in(trailers() if callable(trailers) else ()),
    )
