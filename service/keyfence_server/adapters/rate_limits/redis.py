"""The `RateCounter` port in Redis (or Valkey), for several servers; `limits` does the counting.

A window is one number under one name, counted up and given its end in one step of Redis, so that no
two servers count past each other. A check counts under one limit after the other; at the first that
is then above what it allows it is stopped, and gives back what it has counted. Between the two
another check may see too little left, and be stopped by it; none ever sees too much.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from keyfence_server.application.rate_limits import CounterUnavailable, Window
from keyfence_server.domain.limits import Limit

_PREFIX: Final = "keyfence"
_MAX_CONNECTIONS: Final = 32


class InvalidCounterUrl(Exception):
    """No counter can be at this address, or what is needed to talk to it is missing."""


class RedisCounter:
    """Counts where all servers see it.

    Args:
        url: "redis://…", "rediss://…" for TLS, or "redis+unix:///path".
        timeout_seconds: how long a check waits for it.
    """

    def __init__(self, url: str, timeout_seconds: float) -> None:
        """Connects to nothing yet. Raises `InvalidCounterUrl`."""
        try:
            # An extra of the distribution: who has one server needs neither.
            import redis.asyncio  # noqa: PLC0415
            from limits.aio.storage import RedisStorage  # noqa: PLC0415
            from redis.asyncio.retry import Retry  # noqa: PLC0415
            from redis.backoff import NoBackoff  # noqa: PLC0415
        except ImportError as error:
            raise InvalidCounterUrl(
                f"a shared counter needs the package {error.name!r}; "
                'install "keyfence-server[redis]"'
            ) from None
        if not url.startswith(("redis://", "rediss://", "redis+unix://")):
            raise InvalidCounterUrl("the URL must begin with redis://, rediss:// or redis+unix://")
        try:
            # One that waits for a connection, within the timeout: more checks at once than
            # there are connections must not look like a Redis that is away.
            make_pool: Any = redis.asyncio.BlockingConnectionPool.from_url
            self._pool = make_pool(
                url.replace("redis+unix://", "unix://"),
                max_connections=_MAX_CONNECTIONS,
                timeout=timeout_seconds,
                socket_connect_timeout=timeout_seconds,
                socket_timeout=timeout_seconds,
                # Redis closes connections that are idle for its `timeout`. Such a connection
                # fails when it is next used, and a new one is tried once before Redis counts
                # as away. If Redis had counted already, a check counts twice, never not at all.
                retry=Retry(NoBackoff(), 1, (redis.ConnectionError,)),
            )
            self._storage = RedisStorage(
                f"async+{url}",
                implementation="redispy",
                key_prefix=_PREFIX,
                connection_pool=self._pool,
            )
        except ValueError:
            raise InvalidCounterUrl("the URL cannot be read") from None
        self._timeout_seconds = timeout_seconds
        self._faults = (redis.asyncio.RedisError, OSError, TimeoutError)

    async def take(self, limits: Sequence[Limit], cost: int) -> tuple[int | None, list[Window]]:
        async with self._translated():
            if not cost:
                return None, await self._look(limits)
            if cost > 1:
                # What takes much at once would stop others for no good by trying.
                windows = await self._look(limits)
                stopped_by = _too_small(limits, windows, cost)
                if stopped_by is not None:
                    return stopped_by, windows
            used = []
            for index, limit in enumerate(limits):
                used.append(await self._count(limit, cost))
                if used[-1] > limit.rate.requests:
                    for counted in limits[: index + 1]:
                        await self._count(counted, -cost)
                    return index, await self._look(limits)
            ends = await asyncio.gather(*map(self._ends_at, limits))
            return None, list(map(Window, used, ends))

    async def close(self) -> None:
        await self._pool.aclose()

    async def _look(self, limits: Sequence[Limit]) -> list[Window]:
        return [
            Window(used, ends_at)
            for used, ends_at in zip(
                await asyncio.gather(*(self._storage.get(limit.name) for limit in limits)),
                await asyncio.gather(*map(self._ends_at, limits)),
                strict=True,
            )
        ]

    async def _count(self, limit: Limit, cost: int) -> int:
        return await self._storage.incr(limit.name, limit.rate.seconds, amount=cost)

    async def _ends_at(self, limit: Limit) -> float:
        return await self._storage.get_expiry(limit.name)

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                yield
        except self._faults as error:
            # Its text may hold the URL, and so a password.
            raise CounterUnavailable(type(error).__name__) from None


def _too_small(limits: Sequence[Limit], windows: Sequence[Window], cost: int) -> int | None:
    """The first limit that has less than `cost` left."""
    for index, (limit, window) in enumerate(zip(limits, windows, strict=True)):
        if window.used + cost > limit.rate.requests:
            return index
    return None
