"""A span for each call, if tracing is set up.

Knows the API of OpenTelemetry alone. What records spans, and where they go, is set
up elsewhere; where it is not, no call goes through here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc
from opentelemetry import propagate
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer

from keyfence_server.rpc.failures import Context

RawHandler = Callable[[bytes, Context], Awaitable[bytes]]


class SpanPerCall:
    """A server's span for each call, under the caller's where it sent its context."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def traced(self, method: str, run: RawHandler) -> RawHandler:
        """The handler of the RPC with this full name, traced."""
        service, _, name = method.removeprefix("/").rpartition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}

        async def run_in_span(raw: bytes, context: Context) -> bytes:
            # Only what carries a trace is handed on: the credential is metadata, too.
            carrier = {
                key: value
                for key, value in context.invocation_metadata() or ()
                if key in propagate.get_global_textmap().fields and isinstance(value, str)
            }
            with self._tracer.start_as_current_span(
                f"{service}/{name}",
                context=propagate.extract(carrier),
                kind=SpanKind.SERVER,
                attributes=attributes,
                # The text of an exception is not for everyone who may see traces.
                record_exception=False,
                set_status_on_exception=False,
            ) as span:
                try:
                    answer = await run(raw, context)
                except BaseException:
                    code = context.code()
                    span.set_attribute("rpc.grpc.status_code", _number(code))
                    span.set_status(Status(StatusCode.ERROR))
                    raise
                span.set_attribute("rpc.grpc.status_code", 0)
                return answer

        return run_in_span


def _number(code: object) -> int:
    unknown = grpc.StatusCode.UNKNOWN
    return int((code if isinstance(code, grpc.StatusCode) else unknown).value[0])
