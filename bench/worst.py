"""The most expensive request of each RPC that its limits allow: how long it holds the event loop.

While one call holds the loop, every other call waits. The time is that which the loop's thread
has used of the processor between two turns, so that it does not depend on what else the machine
does. The longest time by the clock is given too: it shows work on other threads as well.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import uvloop
from google.protobuf.message import Message

from bench.processes import ROOT, environment, until_answering, wait_until_ready
from bench.report import Report, Table
from testkit.worst_requests import WorstRequest, prepare

LIMIT_MS: Final = 20.0
_DEADLINE_SECONDS: Final = 120.0


def measure(report: Report, *, rounds: int, key_count: int) -> None:
    """Measures each request.

    Args:
        rounds: how often each one is sent.
        key_count: of the large keyspace.
    """
    table = report.table("worst", f"The worst request of each RPC: {rounds} rounds")
    with tempfile.TemporaryDirectory(prefix="kfb-") as name, _watched(Path(name)) as (child, root):
        uvloop.run(_measure(table, child, f"unix:{name}/s", root, rounds, key_count))


async def _measure(
    table: Table,
    child: subprocess.Popen[str],
    target: str,
    root: str,
    rounds: int,
    key_count: int,
) -> None:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(target, options=options) as channel:

        async def call(rpc: str, request: Message, credential: str | None) -> bytes:
            sent = (("authorization", f"Bearer {credential}"),) if credential else ()
            method: Any = channel.unary_unary(f"/keyfence.v1.{rpc}")
            answer: bytes = await method(
                request.SerializeToString(), metadata=sent, timeout=_DEADLINE_SECONDS
            )
            return answer

        async def once(worst: WorstRequest) -> tuple[str, int, int]:
            request = worst.make()
            try:
                answer = await call(worst.rpc, request, None if worst.is_anonymous else root)
            except grpc.aio.AioRpcError as error:
                return error.code().name, request.ByteSize(), 0
            return "OK", request.ByteSize(), len(answer)

        for worst in await prepare(call, root, key_count=key_count):
            await asyncio.sleep(0.1)
            seen = []
            for _ in range(rounds):
                await _read(child)
                status, sent, received = await once(worst)
                seen.append(await _read(child))
            label = f"{worst.name}, {_kib(sent)}; {status}, {_kib(received)}"
            for quantity, values, at_most in zip(
                ("event loop held, ms of processor", "event loop held, ms", "processor, ms"),
                zip(*seen, strict=True),
                (LIMIT_MS, None, None),
                strict=True,
            ):
                table.add(label, quantity, values, at_most=at_most)


def _kib(count: int) -> str:
    return f"{count / 1024:,.0f} KiB"


async def _read(child: subprocess.Popen[str]) -> list[float]:
    def read() -> list[float]:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write("\n")
        child.stdin.flush()
        return [float(one) for one in child.stdout.readline().split()]

    return await asyncio.to_thread(read)


@contextmanager
def _watched(directory: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server, and the credential that may do everything."""
    settings = {
        **environment(),
        "KEYFENCE_LISTEN": f"unix:{directory / 's'}",
        "KEYFENCE_DATA_DIR": str(directory / "data"),
        "KEYFENCE_LOG_LEVEL": "error",
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "bench.watched_server"],
        cwd=ROOT,
        env=settings,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until_ready(child, until_answering(settings["KEYFENCE_LISTEN"]))
        yield child, (directory / "data" / "root.key").read_text().strip()
    finally:
        assert child.stdin is not None
        child.stdin.close()
        child.wait()
