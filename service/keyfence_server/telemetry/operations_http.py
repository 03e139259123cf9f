"""Serves `/livez`, `/readyz` and `/metrics` over HTTP, on a port of their own.

The server is the one that comes with `prometheus_client`. It has threads of its own, so it
answers while the event loop is blocked, and can say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    PlatformCollector,
    ProcessCollector,
    make_wsgi_app,
    start_http_server,
)
from prometheus_client.registry import Collector

_STALLED_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """What the probes ask.

    Attributes:
        stalled_seconds: for how long the event loop has not run its regular work.
        is_serving: whether health says that the process serves.
        problems: why it does not, for an operator; may be empty.
    """

    stalled_seconds: Callable[[], float]
    is_serving: Callable[[], bool]
    problems: Callable[[], list[str]]

    def livez(self) -> tuple[str, str]:
        """The status and text of `/livez`. Only a restart mends what this reports."""
        stalled = self.stalled_seconds()
        if stalled > _STALLED_SECONDS:
            return _UNAVAILABLE, f"the event loop has not run for {stalled:.0f} seconds\n"
        return _OK, "live\n"

    def readyz(self) -> tuple[str, str]:
        """The status and text of `/readyz`: "ready", or every reason on a line of its own."""
        if self.is_serving():
            return _OK, "ready\n"
        problems = self.problems() or ["the process is starting or stopping, or has no lease"]
        return _UNAVAILABLE, "".join(f"{problem}\n" for problem in problems)


_OK: Final = "200 OK"
_UNAVAILABLE: Final = "503 Service Unavailable"
_TEXT: Final = (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"))


class OperationsServer:
    """Answers probes and Prometheus, on an address of their own."""

    def __init__(self, host: str, port: int, collector: Collector, probes: Probes) -> None:
        """Begins to serve. Raises `OSError` if the port is not available."""
        registry = CollectorRegistry()
        registry.register(collector)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._server, self._thread = start_http_server(port, host, registry)
        # As it comes, the server answers every path with the metrics.
        self._server.set_app(_application(make_wsgi_app(registry), probes))

    @property
    def port(self) -> int:
        """The port, which the kernel may have chosen."""
        return self._server.server_port

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _application(metrics: Callable[..., Any], probes: Probes) -> Callable[..., Any]:
    """The WSGI application."""
    probe_of = {"/livez": probes.livez, "/readyz": probes.readyz}

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            answered: Iterable[bytes] = metrics(environ, start_response)
            return answered
        probe = probe_of.get(path)
        if probe is None:
            status, text = "404 Not Found", "there are /livez, /readyz and /metrics\n"
        elif environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            status, text = "405 Method Not Allowed", "use GET\n"
        else:
            status, text = probe()
        start_response(status, list(_TEXT))
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [text.encode()]

    return answer
