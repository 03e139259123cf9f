"""Terminals in which the commands of a page run as they stand."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from support.served import environment_without_settings

START_SECONDS: Final = 60
# Below the ports that systems give to connections, so no connection takes one meanwhile.
_PORTS: Final = range(20_000, 32_000)


def free_port() -> int:
    """A port of this machine at which nothing listens."""
    while True:
        port = random.SystemRandom().choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


class Terminals:
    """Terminals in one directory.

    Args:
        replaced: texts of the page, such as its ports, and what takes their place.
        variables: of every terminal.
    """

    def __init__(
        self,
        directory: Path,
        replaced: Mapping[str, str],
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self._replaced = replaced
        self._variables = variables or {}
        self._running: list[tuple[subprocess.Popen[bytes], Path]] = []

    def environment(self) -> dict[str, str]:
        kept = environment_without_settings(self._variables)
        return {name: kept[name] for name in kept if name != "VIRTUAL_ENV"}

    def adapted(self, script: str) -> str:
        # At once, so that no port that was chosen is taken for one of the page.
        known = re.compile("|".join(map(re.escape, self._replaced)))
        return known.sub(lambda found: self._replaced[found[0]], script)

    def leave_running(self, script: str, sign: str) -> None:
        """Pastes a script that does not end, and returns once it writes a text of the page, such
        as where its server listens.

        That a port can be connected to does not show it: another program may have it for a
        moment, and a connection from the port to itself succeeds as well.
        """
        written = self.directory / f"terminal-{len(self._running)}.log"
        with written.open("w") as output:
            process = subprocess.Popen(
                ["bash", "-c", self.adapted(script)],
                cwd=self.directory,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running.append((process, written))
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            if self.adapted(sign) in written.read_text():
                return
            time.sleep(0.05)
        raise AssertionError(f"no server listens:\n{self.stop()}")

    def paste(self, script: str) -> str:
        """What a script writes."""
        ended = subprocess.run(
            ["bash", "-ec", self.adapted(script)],
            cwd=self.directory,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def interrupt_last(self) -> None:
        """Ctrl-C in the terminal that was opened last."""
        process, output = self._running.pop()
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) in {0, 130}, output.read_text()

    def stop(self) -> str:
        """Ends what runs, the newest first, and returns what it wrote."""
        written = ""
        while self._running:
            process, output = self._running.pop()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=60)
            written += output.read_text()
        return written
