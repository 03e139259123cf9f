"""A real Keyfence as a process of its own."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from keyfence._async.client import AsyncClient
from keyfence._sync.client import Client
from keyfence.errors import CallFailed, ConfigurationError

_START_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 15.0
_PAUSE_SECONDS: Final = 0.02
_ONE_TRY_SECONDS: Final = 1.0


class ServerProcess:
    """`keyfence serve` on a Unix socket, with its data in a folder of its own. Close it, or use it
    as a context manager; then the data is removed.

    The command is the environment's `KEYFENCE_COMMAND`, or else `keyfence` beside this Python or
    on the `PATH`. `pip install keyfence-server` installs it.

    Args:
        settings: environment variables, such as `KEYFENCE_LEASE_SECONDS`.

    Attributes:
        target: the server's address, for a client.
        token: the first operator credential, which may do everything.

    Raises:
        ConfigurationError: there is no such command, or the server does not answer.
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        command = _command()
        if command is None:
            raise ConfigurationError(
                "there is no command keyfence: install keyfence-server, or set KEYFENCE_COMMAND"
            )
        # A socket's path must be short, and the folders of tests are not.
        self._directory = Path(tempfile.mkdtemp(prefix="kf"))
        self._log = self._directory / "log"
        data = self._directory / "data"
        self.target: Final = f"unix:{self._directory / 'keyfence.sock'}"
        kept = {name: text for name, text in os.environ.items() if not name.startswith("KEYFENCE_")}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "serve"],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **kept,
                    "KEYFENCE_LISTEN": self.target,
                    "KEYFENCE_DATA_DIR": str(data),
                    **(settings or {}),
                },
            )
        try:
            self.token: Final = self._wait_for_token(data / "root.key")
        except BaseException:
            self.close()
            raise

    @staticmethod
    def is_available() -> bool:
        """Whether there is a command to start, for example to skip tests where there is none."""
        return _command() is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The server's process, for example to stop it for a while."""
        return self._process.pid

    def client(self, **options: Any) -> Client:
        """A client of the server, which is yours to close.

        Args:
            options: those of `Client`, besides the target. The token is `token`, unless given.
        """
        return Client(self.target, **{"token": self.token, **options})

    def async_client(self, **options: Any) -> AsyncClient:
        """As `client`, for an event loop."""
        return AsyncClient(self.target, **{"token": self.token, **options})

    def close(self) -> None:
        """Stops the server and removes its data. Closing twice is fine."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _wait_for_token(self, file: Path) -> str:
        deadline = time.monotonic() + _START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            token = file.read_text().strip() if file.exists() else ""
            if token and self._answers(token):
                return token
            time.sleep(_PAUSE_SECONDS)
        said = self._log.read_text(errors="replace")
        raise ConfigurationError(f"keyfence serve does not answer:\n{said}")

    def _answers(self, token: str) -> bool:
        with Client(self.target, token=token, check_timeout_seconds=_ONE_TRY_SECONDS) as client:
            try:
                client.who_am_i()
            except CallFailed:
                return False
            return True


def _command() -> list[str] | None:
    """The command, if its program is there."""
    asked = shlex.split(os.environ.get("KEYFENCE_COMMAND", ""))
    beside = str(Path(sys.executable).parent / "keyfence")
    candidates = [asked] if asked else [[beside], ["keyfence"]]
    return next((one for one in candidates if shutil.which(one[0])), None)
