"""A supervisor's view of the tests: which processes died by a signal that no test had sent.

A server that crashes may have answered all that its test asked, so its death is looked for by
itself. Every process that the tests start by `subprocess` is watched, and every signal that they
send by `os` is noted.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class Deaths:
    """Processes that were started, and signals that were sent to them."""

    def __init__(self) -> None:
        self._watched: list[subprocess.Popen[Any]] = []
        self._sent: defaultdict[int, set[int]] = defaultdict(set)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watches all processes that are started meanwhile."""
        start, kill, kill_group = subprocess.Popen.__init__, os.kill, os.killpg

        def watched_start(process: subprocess.Popen[Any], *arguments: Any, **options: Any) -> None:
            start(process, *arguments, **options)
            self._sent.pop(process.pid, None)
            self._watched.append(process)

        def noted_kill(pid: int, number: int) -> None:
            self._sent[pid].add(number)
            kill(pid, number)

        def noted_kill_group(group: int, number: int) -> None:
            self._sent[group].add(number)
            kill_group(group, number)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(subprocess.Popen, "__init__", watched_start)
            patch.setattr(os, "kill", noted_kill)
            patch.setattr(os, "killpg", noted_kill_group)
            yield

    def take(self) -> list[str]:
        """The deaths since the last time, each as a sentence."""
        found: list[str] = []
        running: list[subprocess.Popen[Any]] = []
        for process in self._watched:
            number = _ended_by(process)
            if number is None:
                running.append(process)
            elif number and number not in self._sent[process.pid]:
                name = signal.Signals(number).name
                found.append(f"{process.args!r} died by {name}, which no test sent")
        self._watched = running
        return found


def _ended_by(process: subprocess.Popen[Any]) -> int | None:
    """The signal that ended a process, 0 if it exited, and None while it runs."""
    if process.returncode is not None:
        return max(0, -process.returncode)
    try:
        # Looked at without being waited for: its exit code belongs to the test.
        ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        # Waited for by asyncio, which has not said yet how it ended.
        return None
    if ended is None:
        return None
    return ended.si_status if ended.si_code in (os.CLD_KILLED, os.CLD_DUMPED) else 0
