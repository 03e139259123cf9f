"""The Python client as a program: a line of JSON in, a line of JSON out.

The commands are those of the clients of other languages: `open`, `check`, `status`, `measure`,
`memory`. Checks at once are tasks of one event loop, and checks one by one are those of the
synchronous client.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from typing import Any

import psutil

from keyfence import AsyncClient, Batching, Cache, Client


class Program:
    """The client that was opened last."""

    def __init__(self) -> None:
        self._client: Client | None = None
        self._target = self._token = self._mode = ""

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Does what a line asks for."""
        match asked["do"]:
            case "open":
                self._target, self._token = asked["target"], asked["token"]
                self._mode = asked["mode"]
                cache = Cache() if self._mode == "cached" else None
                self._client = Client(self._target, token=self._token, cache=cache)
                return {}
            case "check":
                result = self._opened().check_scope(asked["api_key"], *asked["scopes"])
                return {"allowed": result.allowed}
            case "status":
                status = self._opened().cache_status()
                return {} if status is None else {"live": status.is_live, "hits": status.hits}
            case "memory":
                gc.collect()
                return {"bytes": psutil.Process().memory_info().rss}
            case "measure" if asked["at_once"] == 1:
                return _percentiles(self._one_by_one(asked))
            case "measure":
                return _percentiles(asyncio.run(self._at_once(asked)))
            case unknown:
                raise ValueError(f"there is no command {unknown}")

    def _opened(self) -> Client:
        if self._client is None:
            raise ValueError("the first command must be open")
        return self._client

    def _one_by_one(self, asked: dict[str, Any]) -> list[int]:
        check, key, scopes = self._opened().check_scope, asked["api_key"], asked["scopes"]
        keyspace = asked["keyspace"]
        untimed = range(asked["timed_every"] - 1)
        took = []
        for _ in range(asked["count"] // asked["timed_every"]):
            began = time.perf_counter_ns()
            result = check(key, *scopes, keyspace=keyspace)
            took.append(time.perf_counter_ns() - began)
            _require(result)
            for _ in untimed:
                _require(check(key, *scopes, keyspace=keyspace))
        return took

    async def _at_once(self, asked: dict[str, Any]) -> list[int]:
        took: list[int] = []
        batching = Batching() if self._mode == "batched" else None
        async with AsyncClient(self._target, token=self._token, batching=batching) as client:

            async def ask() -> None:
                for _ in range(asked["count"] // asked["at_once"]):
                    began = time.perf_counter_ns()
                    result = await client.check_scope(
                        asked["api_key"], *asked["scopes"], keyspace=asked["keyspace"]
                    )
                    took.append(time.perf_counter_ns() - began)
                    _require(result)

            await asyncio.gather(*(ask() for _ in range(asked["at_once"])))
        return took


def _require(result: Any) -> None:
    if not result.allowed:
        raise RuntimeError(f"the check was answered with {result.reason}")


def _percentiles(took: list[int]) -> dict[str, Any]:
    took.sort()
    return {"p50_us": took[len(took) // 2] / 1e3, "p99_us": took[len(took) * 99 // 100] / 1e3}


def main() -> None:
    """Runs until the standard input ends."""
    program = Program()
    for line in sys.stdin:
        print(json.dumps(program.answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
