"""A clone as a new user has it, with the server that `make run` starts in it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from docs.pages import ROOT, blocks, read
from support.served import environment_without_settings

FIRST_MINUTES: Final = blocks(read("README.md").partition("<!-- first five minutes -->")[2], "sh")[
    0
].splitlines()
"""The README's commands to paste."""


class Clone:
    """A directory laid out as a clone, in which `make run` is running.

    Attributes:
        said: what the first start wrote.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.target = f"unix:{directory}/s"
        self._lay_out()
        self._process = subprocess.Popen(
            # What it would install is there already.
            ["make", "run", "--assume-old=.venv/.runtime"],
            cwd=directory,
            env=self.environment({"KEYFENCE_LISTEN": self.target}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self.said = ""
        for line in self._process.stdout:
            self.said += line
            if line.strip() == FIRST_MINUTES[-1]:
                break
        else:
            self.stop()
            raise AssertionError(f"the server did not start:\n{self.said}")

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """That of another terminal: nothing set, and no `.venv` on the PATH."""
        kept = {
            name: value
            for name, value in environment_without_settings().items()
            if not name.startswith(("MAKE", "MFLAGS", "VIRTUAL_ENV"))
        }
        return {**kept, "PATH": "/usr/local/bin:/usr/bin:/bin", **(more or {})}

    def paste(self, script: str, *, more: Mapping[str, str] | None = None) -> str:
        """Runs a script in another terminal, and returns all that it wrote."""
        ended = subprocess.run(
            ["bash", "-c", script],
            cwd=self.directory,
            env=self.environment({"KEYFENCE_TARGET": self.target, **(more or {})}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        return ended.stdout

    def run(self, script: str) -> str:
        """As `paste`, behind the first two of the README's commands. A failure is one."""
        return self.paste("\n".join(["set -euo pipefail", *FIRST_MINUTES[:2], script]))

    def stop(self) -> None:
        """Stops the server, as its operator would."""
        # The group is ours for as long as its leader has not been waited for. A pid out of
        # another process could have the lock's file by now.
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
        self._process.communicate(timeout=30)

    def _lay_out(self) -> None:
        for name in ("Makefile", "examples", "tools"):
            (self.directory / name).symlink_to(ROOT / name)
        ours, theirs = Path(sys.prefix), self.directory / ".venv"
        (theirs / "bin").mkdir(parents=True)
        shutil.copy(ours / "pyvenv.cfg", theirs)
        for entry in ours.glob("lib*"):
            (theirs / entry.name).symlink_to(entry)
        python = theirs / "bin" / "python"
        python.symlink_to(Path(sys.executable).resolve())
        command = theirs / "bin" / "keyfence"
        command.write_text(
            f"#!{python}\nimport sys\nfrom keyfence_server.cli import main\nsys.exit(main())\n"
        )
        command.chmod(0o755)


@pytest.fixture(scope="module")
def clone() -> Iterator[Clone]:
    with TemporaryDirectory(prefix="kf") as directory:
        made = Clone(Path(directory).resolve())
        try:
            yield made
        finally:
            made.stop()
