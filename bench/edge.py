"""A request through Envoy and Keyfence against one through Envoy and an empty server.

Both Envoys have the configuration of deploy/envoy, but for addresses, and answer by
themselves what is let through. What differs is who says that it may.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import yaml

import keyfence as sdk
from bench.processes import ROOT, ServerProcess, empty_echo, keyfence, running
from bench.report import Report
from keyfence_server.gateway.admin import Admin
from keyfence_server.gateway.binary import envoy_binary

IN_FLIGHT: Final = 16
_EXAMPLE: Final = ROOT / "deploy" / "envoy" / "envoy.yaml"
_PATH: Final = "/api/v1/instances"


@dataclass(frozen=True, slots=True)
class Edge:
    """An Envoy and who it asks."""

    envoy: psutil.Process
    port: int
    asked: ServerProcess


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of requests took: processor time in microseconds a request."""

    envoy: float
    asked: float
    together: float
    requests_per_second: float


def measure(report: Report, *, rounds: int, requests: int) -> None:
    """Measures the processor time a request of both."""
    title = f"The edge: {rounds} rounds in turn, {IN_FLIGHT} requests in flight"
    table = report.table("edge", title)
    with ExitStack() as stack:
        ours = stack.enter_context(keyfence())
        with sdk.Client(ours.target, token=ours.token) as client:
            made = client.create_key(keyspace="demo", account_id="bench", scopes=["vps:write"])
        edges = [
            stack.enter_context(_edge(asked))
            for asked in (ours, stack.enter_context(empty_echo(0)))
        ]
        took: tuple[list[Round], list[Round]] = ([], [])
        for number in range(rounds + 1):
            for edge, results in zip(edges, took, strict=True):
                one = asyncio.run(_run_round(edge, made.api_key, requests))
                if number:  # the first round warms up
                    results.append(one)
    for quantity, field in (
        ("CPU of Envoy and the server, µs a request", "together"),
        ("CPU of Envoy, µs a request", "envoy"),
        ("CPU of the server, µs a request", "asked"),
        ("requests a second", "requests_per_second"),
    ):
        values, floor = ([getattr(one, field) for one in results] for results in took)
        table.compare(
            quantity,
            {"Keyfence": values, "an empty server": floor},
            ratio=f"Keyfence ÷ an empty server, {quantity.partition(',')[0]}",
        )


@contextmanager
def _edge(asked: ServerProcess) -> Iterator[Edge]:
    with tempfile.TemporaryDirectory(prefix="keyfence-bench-") as directory:
        admin = Admin(Path(directory) / "admin.sock")
        config = Path(directory) / "envoy.json"
        config.write_text(json.dumps({**_config(asked.target), "admin": admin.config()}))
        command = [
            *(str(envoy_binary()), "--config-path", str(config), "--log-level", "error"),
            *("--concurrency", "1", "--disable-hot-restart"),
        ]
        environment = {**os.environ, "KEYFENCE_EDGE_TOKEN": asked.token}
        with running(command, environment, lambda: bool(admin.listening())) as process:
            _, port = (admin.listening() or {})["edge"]
            yield Edge(process, port, asked)


def _config(target: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(_EXAMPLE.read_text())
    listener = config["static_resources"]["listeners"][0]
    listener["address"]["socket_address"]["port_value"] = 0
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    # Writing the access log is not measured.
    del manager["access_log"]
    host = manager["route_config"]["virtual_hosts"][0]
    settings = host["typed_per_filter_config"]["envoy.filters.http.ext_authz"]["check_settings"]
    settings["context_extensions"]["keyspace"] = "demo"
    for route in host["routes"]:
        if "route" in route:
            del route["route"]
            route["direct_response"] = {"status": 200}
    for cluster in config["static_resources"]["clusters"]:
        if cluster["name"] == "keyfence":
            endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
            endpoint["address"] = {"pipe": {"path": target.removeprefix("unix:")}}
    return config


async def _run_round(edge: Edge, api_key: str, requests: int) -> Round:
    request = (
        f"GET {_PATH} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {api_key}\r\n\r\n".encode()
    )
    before = _cpu(edge)
    began = time.perf_counter()
    await asyncio.gather(
        *(_client(edge.port, request, requests // IN_FLIGHT) for _ in range(IN_FLIGHT))
    )
    seconds = time.perf_counter() - began
    after = _cpu(edge)
    count = requests // IN_FLIGHT * IN_FLIGHT
    envoy, asked = ((b - a) / count * 1e6 for a, b in zip(before, after, strict=True))
    return Round(envoy, asked, envoy + asked, count / seconds)


async def _client(port: int, request: bytes, requests: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(requests):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode("latin-1"))
    writer.close()
    await writer.wait_closed()


def _cpu(edge: Edge) -> tuple[float, float]:
    times = edge.envoy.cpu_times()
    return float(times.user + times.system), edge.asked.cpu_seconds()
