"""What the asynchronous client and a holder do alike with `grpc.aio`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable

import grpc

from keyfence._tokens import checked_token
from keyfence.connection import Connection


def open_channel(
    connection: Connection, more_options: Iterable[tuple[str, int]] = ()
) -> grpc.aio.Channel:
    """A new channel to the server."""
    options = [*connection.options(), *more_options]
    if connection.tls is None:
        return grpc.aio.insecure_channel(connection.target, options=options)
    return grpc.aio.secure_channel(connection.target, connection.tls.credentials(), options=options)


async def current_token(connection: Connection) -> str | None:
    """The token to present now; None for none. Raises `ConfigurationError`."""
    if connection.token is None:
        return None
    token = connection.token()
    return checked_token(await token if inspect.isawaitable(token) else token)


def was_cancelled() -> bool:
    """Whether the running task itself was cancelled. gRPC raises `CancelledError` also when a
    call ends because its channel was closed."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
