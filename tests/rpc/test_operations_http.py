"""`/livez`, `/readyz` and `/metrics`: what probes and Prometheus are told, and nothing else."""

from __future__ import annotations

import asyncio
import http.client
from typing import Any

import pytest

from keyfence_server.adapters.upstream.diagnosis import NOTHING_LISTENS, SIDECAR
from keyfence_server.telemetry.operations_http import Probes
from support.serving import server_and_sidecar


async def get(served: Any, path: str, method: str = "GET") -> tuple[int, str]:
    def ask() -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", served.server.metrics_port, timeout=5)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    return await asyncio.to_thread(ask)


async def test_probes_and_metrics_are_served_and_nothing_else(serve: Any) -> None:
    served = await serve(metrics_listen="127.0.0.1:0")
    assert await get(served, "/livez") == (200, "live\n")
    assert await get(served, "/readyz") == (200, "ready\n")
    status, metrics = await get(served, "/metrics")
    assert status == 200
    assert "keyfence_build_info{" in metrics
    for path in ("/", "/metrics/", "/favicon.ico", "/livez/x", "/debug/pprof", "/%6divez"):
        assert (await get(served, path))[0] == 404, path
    assert (await get(served, "/readyz", "POST"))[0] == 405


async def test_a_server_that_drains_is_live_and_not_ready(serve: Any) -> None:
    served = await serve(metrics_listen="127.0.0.1:0")
    served.server.say_not_serving()
    assert (await get(served, "/livez"))[0] == 200
    assert await get(served, "/readyz") == (
        503,
        "the process is starting or stopping, or has no lease\n",
    )


async def until_readyz(served: Any, status: int) -> None:
    async with asyncio.timeout(30):
        while (await get(served, "/readyz"))[0] != status:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.05)


async def test_a_sidecar_is_ready_while_it_has_a_server() -> None:
    async with server_and_sidecar(metrics_listen="127.0.0.1:0") as (server, sidecar):
        await until_readyz(sidecar, 200)
        await server.server.stop()
        await until_readyz(sidecar, 503)
        async with asyncio.timeout(30):
            # The sidecar says why as soon as it has tried to connect again.
            why = SIDECAR.fill(NOTHING_LISTENS)
            while why not in (await get(sidecar, "/readyz"))[1]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert (await get(sidecar, "/livez"))[0] == 200


@pytest.mark.parametrize(("stalled", "status"), [(1.0, "200"), (29.0, "200"), (31.0, "503")])
def test_a_process_whose_event_loop_stands_still_is_not_live(stalled: float, status: str) -> None:
    probes = Probes(stalled_seconds=lambda: stalled, is_serving=lambda: True, problems=list)
    assert probes.livez()[0].startswith(status)


def test_every_reason_is_on_a_line_of_its_own() -> None:
    probes = Probes(
        stalled_seconds=lambda: 0.0, is_serving=lambda: False, problems=lambda: ["one", "two"]
    )
    assert probes.readyz() == ("503 Service Unavailable", "one\ntwo\n")
