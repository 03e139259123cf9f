"""Sets up OpenTelemetry where its own variables ask for it.

The SDK is an extra of the distribution. Its variables are those of every program
that it is in (`OTEL_EXPORTER_OTLP_ENDPOINT` and so on), so there are none of ours.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Traces:
    """Where spans go.

    Attributes:
        calls: makes them; None if no tracing is set up.
        close: sends what has not been sent yet.
    """

    calls: SpanPerCall | None = None
    close: Callable[[], object] = lambda: None


def configure_tracing(environment: Mapping[str, str] | None = None) -> Traces:
    """Traces, if the variables ask for them and the SDK is there."""
    variables = os.environ if environment is None else environment
    asking = [name for name in _ASKING if variables.get(name)]
    is_disabled = variables.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if not asking or is_disabled or variables.get("OTEL_TRACES_EXPORTER", "").lower() == "none":
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
