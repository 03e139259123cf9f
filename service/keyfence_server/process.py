"""The server as a process: its logs, its signals, its end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog
import uvloop

from keyfence_server.composition.server import RunningServer, start
from keyfence_server.config import Settings
from keyfence_server.rpc.tracing import SpanPerCall
from keyfence_server.telemetry.logs import configure_logs, log_uncaught_in
from keyfence_server.telemetry.tracing import configure_tracing
from keyfence_server.welcome import find_example, welcome

_SWITCH_SECONDS: Final = 0.0001
_NEW_OBJECTS: Final = 10_000

_log = structlog.get_logger("keyfence")


@dataclass(frozen=True, slots=True)
class AsWorker:
    """What a process has to do as one of several.

    Attributes:
        number: of the worker, from 0.
        ready: called when the worker serves.
        watch_parent: calls back when the parent is gone.
    """

    number: int
    ready: Callable[[], None]
    watch_parent: Callable[[Callable[[], None]], None]


def run(settings: Settings, worker: AsWorker | None = None) -> None:
    """Serves until a signal says to stop: the first one drains, the second stops at once. A worker
    serves no longer than its parent lives. Raises `CannotStart` with the reason and what to do."""
    let_the_event_loop_go_first()
    configure_logs(settings.log_format, settings.log_level)
    if worker is not None:
        structlog.contextvars.bind_contextvars(worker=worker.number)
    _keep_grpc_quiet()
    traces = configure_tracing()
    try:
        uvloop.run(_serve(settings, traces.calls, worker))
    finally:
        traces.close()


def _keep_grpc_quiet() -> None:
    # gRPC's core writes to the standard error by itself, past every redaction.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if os.environ.get("GRPC_TRACE"):
        _log.warning(
            "grpc_trace_is_set", consequence="gRPC writes credentials and keys to standard error"
        )


def let_the_event_loop_go_first() -> None:
    """Has Python ask a thread for the interpreter after a tenth of a millisecond, and not after
    five milliseconds.

    Heavy work runs on a thread, and a check needs the interpreter several times.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)


def keep_full_collections_short() -> None:
    """Takes all that the start has made out of the garbage collector's sight.

    A full collection stops every thread. The modules, descriptors and tables that a server loads
    are some 130,000 objects, which live as long as it does: to walk them takes over a tenth of a
    second.

    It looks at new objects less often, too. A page of a thousand keys makes ten thousand, and
    nearly everything is freed without the collector.
    """
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)


async def _serve(settings: Settings, tracing: SpanPerCall | None, worker: AsWorker | None) -> None:
    loop = asyncio.get_running_loop()
    log_uncaught_in(loop)
    signals: asyncio.Queue[str] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number.name)
    if worker is not None:
        worker.watch_parent(lambda: signals.put_nowait("the parent is gone"))
    starting = asyncio.ensure_future(start(settings, tracing=tracing, is_worker=worker is not None))
    told = asyncio.create_task(signals.get())
    await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
    if told.done() and not starting.done():
        # It may be waiting for its database.
        starting.cancel()
        await asyncio.wait({starting})
        _log.info("stopped", signal=told.result())
        return
    server = await starting
    keep_full_collections_short()
    for address in server.addresses:
        if server.is_serving:
            _log.info("serving", address=str(address))
        else:
            _log.warning(
                "not_serving",
                address=str(address),
                consequence="checks are refused, and health is not serving, until there is a lease",
            )
    if server.metrics_port is not None:
        _log.info("serving_metrics", port=server.metrics_port)
    if server.first_start is not None:
        report = server.first_start
        example = find_example(report.keyspaces)
        text = welcome(
            server.addresses, report.root_key_file, example, settings.certificate_files()
        )
        sys.stdout.write(text)
        sys.stdout.flush()
    if worker is not None:
        worker.ready()
    await _until_stopped(server, settings, signals, told)
    _log.info("stopped")


async def _until_stopped(
    server: RunningServer, settings: Settings, signals: asyncio.Queue[str], told: asyncio.Task[str]
) -> None:
    ended = asyncio.ensure_future(server.wait())
    await asyncio.wait({ended, told}, return_when=asyncio.FIRST_COMPLETED)
    if not told.done():
        told.cancel()
        await server.stop()
        await ended
        return
    _log.info("draining", signal=told.result(), seconds=settings.drain_seconds)
    server.say_not_serving()
    draining = asyncio.ensure_future(_drain(server, settings))
    told_again = asyncio.ensure_future(signals.get())
    await asyncio.wait({draining, told_again}, return_when=asyncio.FIRST_COMPLETED)
    if told_again.done():
        _log.warning("stopping_at_once", signal=told_again.result())
        draining.cancel()
        await asyncio.wait({draining})
        await server.stop()
    else:
        told_again.cancel()
        await draining
    await ended


async def _drain(server: RunningServer, settings: Settings) -> None:
    await asyncio.sleep(settings.drain_delay_seconds)
    await server.stop(settings.drain_seconds)
