"""Processes that can be killed, stopped and started again."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

_STOP_SECONDS: Final = 15
_CRASHES: Final = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT)


@dataclass
class Member:
    """A process that may be killed, stopped and started again."""

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it. It may take a while until it answers."""
        self._require_no_crash()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """`kill -9`."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self._require_no_crash()
            self.process = None

    def start_anew(self) -> None:
        """Starts it again, whether or not it has come to its end yet."""
        self.kill()
        self.start()

    @property
    def has_ended(self) -> bool:
        """Whether it is gone, though it was not killed."""
        return self.process is not None and self.process.poll() is not None

    def children(self) -> list[psutil.Process]:
        """The processes that it has started, the oldest first."""
        if self.process is None or self.process.poll() is not None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children()
        return []

    def end(self) -> None:
        """Lets it stop in order; if it does not, ends it."""
        children = self.children()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.resume()
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        if self.process is not None:
            try:
                self.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        self._require_no_crash()

    def _require_no_crash(self) -> None:
        # No test has sent it such a signal.
        code = self.process.poll() if self.process is not None else None
        if code is not None and -code in _CRASHES:
            raise RuntimeError(f"{self.name} crashed ({code}):\n{self.log.read_text()[-5000:]}")


@dataclass
class Worker:
    """One of the workers of a server, whose parent starts another in its place."""

    name: str
    parent: Member
    number: int
    _stopped: psutil.Process | None = None
    has_ended: bool = False

    def start(self) -> None:
        """Nothing to do: the parent has."""

    def start_anew(self) -> None:
        """The same."""

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal; what continues is what was stopped."""
        whom = self._stopped if number is signal.SIGCONT else self._find()
        if number is signal.SIGSTOP:
            self._stopped = whom
        if whom is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                whom.send_signal(number)

    def kill(self) -> None:
        """`kill -9`."""
        worker = self._find()
        if worker is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()

    def _find(self) -> psutil.Process | None:
        workers = self.parent.children()
        return workers[self.number % len(workers)] if workers else None
