"""Sets up OpenTelemetry where its own variables ask for it.

The SDK is an extra of the distribution. Its variables are those of every program
that it is in (`OTEL_EXPORTER_OTLP_ENDPOINT` and so on), so there are none of ours.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from opentelemetry import trace

from keyfence_server.rpc.tracing import SpanPerCall

_ASKING: Final = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_TRACES_EXPORTER",
)
_NAME: Final = "keyfence"

_log = structlog.get_logger("keyfence.telemetry")


class Traces:
    """Where spans go.

    Attributes:
        calls: makes them; None if no tracing is set up.
    """

    def __init__(
        self, calls: SpanPerCall | None = None, close: Callable[[], object] | None = None
    ) -> None:
        self.calls = calls
        self._close = close

    def close(self) -> None:
        """Sends what has not been sent yet."""
        if self._close is not None:
            self._close()


def configure_tracing(environment: Mapping[str, str] | None = None) -> Traces:
    """Traces, if the variables ask for them and the SDK is there."""
    variables = os.environ if environment is None else environment
    if variables.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return Traces()
    if variables.get("OTEL_TRACES_EXPORTER", "otlp").lower() == "none":
        return Traces()
    asking = [name for name in _ASKING if variables.get(name)]
    if not asking:
        return Traces()
    try:
        sdk: Any = importlib.import_module("opentelemetry.sdk.trace")
        export: Any = importlib.import_module("opentelemetry.sdk.trace.export")
        resources: Any = importlib.import_module("opentelemetry.sdk.resources")
        otlp: Any = importlib.import_module("opentelemetry.exporter.otlp.proto.grpc.trace_exporter")
    except ImportError:
        _log.warning(
            "tracing_sdk_missing",
            variable=asking[0],
            advice='install "keyfence-server[otel]", or unset the variable',
        )
        return Traces()
    resource = resources.Resource.create(
        {"service.name": variables.get("OTEL_SERVICE_NAME", _NAME)}
    )
    provider = sdk.TracerProvider(resource=resource)
    provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
    return Traces(SpanPerCall(trace.get_tracer(_NAME, tracer_provider=provider)), provider.shutdown)
