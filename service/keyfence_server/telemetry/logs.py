"""Logs: one event a line, for machines (JSON) or for people (a terminal).

Every line of the process comes through here, those of libraries too, so that all
of them pass the redaction and the limit of lines a second. Exceptions are shown with
their frames and never with the local variables in them: that is where the secrets are.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from types import TracebackType
from typing import Any, Literal, TextIO

import structlog

from keyfence_server.telemetry.log_limit import LogLimits
from keyfence_server.telemetry.redaction import redact_event

LogFormat = Literal["auto", "json", "console"]
"""How lines look. "auto" is for people on a terminal and for machines elsewhere."""
LogLevel = Literal["debug", "info", "warning", "error"]
"""The least severe level that is logged."""


def configure_logs(
    form: LogFormat = "auto", level: LogLevel = "info", stream: TextIO | None = None
) -> None:
    """Sends every log line of the process to `stream` (the standard error by default)."""
    out = stream if stream is not None else sys.stderr
    for_people = form == "console" or (form == "auto" and out.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(for_people, colours=for_people and out.isatty()),
            ],
        )
    )
    handler.addFilter(LogLimits())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # Says in each error what the RPCs have already said with a request id.
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)
    for chatty in ("aiosqlite", "asyncio", "sqlalchemy", "alembic"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    sys.excepthook = _log_uncaught


def log_uncaught_in(loop: asyncio.AbstractEventLoop) -> None:
    """Has the loop log what no task caught, like everything else."""
    loop.set_exception_handler(_log_uncaught_in_loop)


def _renderers(for_people: bool, *, colours: bool) -> list[Any]:
    if for_people:
        # The exception becomes text before the redaction, which looks at text.
        return [
            structlog.processors.format_exc_info,
            redact_event,
            structlog.dev.ConsoleRenderer(colors=colours),
        ]
    without_locals = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return [
        structlog.processors.ExceptionRenderer(without_locals),
        redact_event,
        structlog.processors.JSONRenderer(),
    ]


def _log_uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger("keyfence").error("uncaught", exc_info=(kind, error, traceback))


def _log_uncaught_in_loop(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # `context` also holds the task, the future and the handle, whose repr could show arguments.
    structlog.get_logger("keyfence").error(
        "uncaught_in_event_loop", problem=context.get("message"), exc_info=context.get("exception")
    )
