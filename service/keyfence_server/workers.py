"""Several processes of one server on one host: `keyfence serve --workers N`.

The parent serves no calls. It holds what only one may have, the data directory's lock and
the port, and keeps the workers going: each is a fresh interpreter, and a holder of its
own on the store, so that one that dies takes nothing with it but its own calls.

The first start (credential, keyspaces) is the first worker's, before there are others.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from keyfence_server import process
from keyfence_server.adapters.ports import PortTaken, claim_port
from keyfence_server.config import Settings
from keyfence_server.provisioning import (
    CannotStart,
    cannot_start,
    embedded_database,
    lock_database,
    warn_of_separate_counts,
)
from keyfence_server.rpc.listen_addresses import ListenAddress, TcpAddress
from keyfence_server.telemetry.logs import configure_logs

_FIRST_BACKOFF_SECONDS: Final = 0.2
_LAST_BACKOFF_SECONDS: Final = 10.0
_SETTLED_SECONDS: Final = 10.0
_LATE_SECONDS: Final = 10.0
"""How much longer than its calls a worker may take to end, until it is killed."""

_log = structlog.get_logger("keyfence")


def run(settings: Settings) -> None:
    """Serves until a signal says to stop: the first one drains, the second stops at once. Raises
    `CannotStart` with the reason and what to do."""
    if settings.workers == 1:
        process.run(settings)
    else:
        configure_logs(settings.log_format, settings.log_level)
        warn_of_separate_counts(settings, processes=settings.workers)
        asyncio.run(_supervise(settings))


async def _supervise(settings: Settings) -> None:
    with ExitStack() as held:
        database = embedded_database(settings)
        descriptors = []
        if database is not None:
            lock = lock_database(settings, database)
            held.callback(lock.release)
            # Every worker holds it too: it is free when the last of them is gone, and not
            # when the parent is, since workers may answer from memory until then.
            descriptors.append(lock.descriptor)
        listen: list[TcpAddress] = []
        for address in settings.tcp_addresses():
            with cannot_start(f"KEYFENCE_LISTEN: cannot listen on {address}", PortTaken):
                port = claim_port(address.host, address.port)
            held.callback(port.release)
            listen.append(TcpAddress(address.host, port.number))
        await _Workers(settings, tuple(listen), tuple(descriptors)).run()


@dataclass(eq=False, slots=True)
class _Worker:
    """A worker's process, and how it says that it has started."""

    process: asyncio.subprocess.Process
    reports: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def report(self) -> str:
        """Empty when it serves, or why it does not."""
        try:
            line = await self.reports.readline()
        except ConnectionError:
            line = b""
        if not line:
            return f"a worker ended during its start, with {_how(await self.process.wait())}"
        return str(json.loads(line))


@dataclass(eq=False, slots=True)
class _Workers:
    _settings: Settings
    _listen: tuple[TcpAddress, ...]
    _descriptors: tuple[int, ...]
    _running: dict[int, _Worker] = field(default_factory=dict)
    _is_stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Starts the workers, and returns when all have ended."""
        signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, signals.put_nowait, number)
        stopping = asyncio.create_task(self._stop_when_told(signals))
        keeping: list[asyncio.Task[None]] = []
        try:
            # The first one makes what there is only one of.
            await self._start(0)
            if not self._is_stopping.is_set():
                others = range(1, self._settings.workers)
                await asyncio.gather(*(self._start(number) for number in others))
                _log.info("serving", address=_joined(self._listen), workers=self._settings.workers)
            keeping = [
                asyncio.create_task(self._keep(number)) for number in range(self._settings.workers)
            ]
            await asyncio.gather(*keeping)
            _log.info("stopped")
        except CannotStart:
            if not self._is_stopping.is_set():
                raise
        finally:
            self._is_stopping.set()
            for task in (stopping, *keeping):
                task.cancel()
            await self._end_all()

    async def _start(self, number: int) -> None:
        """Starts a worker, and returns when it serves. Raises `CannotStart`."""
        ours, theirs = socket.socketpair()
        with theirs:
            started = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "keyfence_server.worker", str(theirs.fileno())),
                *(str(number), self._listen_of(number), *self._metrics_listen(number)),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *self._descriptors),
                # Ctrl-C is for the parent alone, which tells the workers.
                process_group=0,
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        worker = self._running[number] = _Worker(started, reader, writer)
        if self._is_stopping.is_set():
            started.terminate()
        if reason := await worker.report():
            await started.wait()
            raise CannotStart(reason)

    def _listen_of(self, number: int) -> str:
        # A Unix socket cannot be shared. It is for probes of the server's
        # health from its own host, and the first worker answers for all.
        own = self._settings.unix_addresses() if number == 0 else ()
        return _joined((*self._listen, *own))

    def _metrics_listen(self, number: int) -> list[str]:
        address = self._settings.metrics_address()
        if address is None:
            return []
        return [str(TcpAddress(address.host, address.port + number if address.port else 0))]

    async def _keep(self, number: int) -> None:
        """Keeps a worker going until the server is to stop."""
        backoff = _FIRST_BACKOFF_SECONDS
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            worker = self._running[number]
            code = await worker.process.wait()
            worker.writer.close()
            if self._is_stopping.is_set():
                return
            _log.error("worker_ended", worker=number, how=_how(code))
            if loop.time() - began > _SETTLED_SECONDS:
                backoff = _FIRST_BACKOFF_SECONDS
            if await self._stops_within(backoff):
                return
            backoff = min(_LAST_BACKOFF_SECONDS, backoff * 2)
            try:
                await self._start(number)
            except CannotStart as error:
                _log.error("worker_cannot_start", worker=number, why=str(error))
            else:
                _log.info("worker_serving_again", worker=number)

    async def _stops_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._is_stopping.wait(), seconds)
        return self._is_stopping.is_set()

    async def _stop_when_told(self, signals: asyncio.Queue[signal.Signals]) -> None:
        while True:
            told = await signals.get()
            self._is_stopping.set()
            _log.info("stopping_workers", signal=told.name)
            for worker in self._running.values():
                if worker.process.returncode is None:
                    worker.process.send_signal(told)
            asyncio.get_running_loop().call_later(self._patience(), self._kill_all)

    def _patience(self) -> float:
        return self._settings.drain_delay_seconds + self._settings.drain_seconds + _LATE_SECONDS

    def _kill_all(self) -> None:
        for number, worker in self._running.items():
            if worker.process.returncode is None:
                _log.error("worker_killed", worker=number)
                worker.process.kill()

    async def _end_all(self) -> None:
        """Leaves no worker behind."""
        left = [one for one in self._running.values() if one.process.returncode is None]
        for worker in left:
            worker.process.terminate()
        killing = asyncio.get_running_loop().call_later(self._patience(), self._kill_all)
        await asyncio.gather(*(worker.process.wait() for worker in left))
        killing.cancel()


def _joined(addresses: Sequence[ListenAddress]) -> str:
    return ",".join(map(str, addresses))


def _how(code: int) -> str:
    if code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"
