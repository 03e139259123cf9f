"""The tutorials work as they stand, word for word."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from docs.pages import ROOT, blocks, read
from support.served import environment_without_settings

FASTAPI: Final = read("docs/tutorials/fastapi.md")
START_SECONDS: Final = 60

needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="the commands need jq")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Terminals:
    """Terminals in one directory, whose ports are free ones and not those of the page."""

    def __init__(self, directory: Path, ports: dict[str, int]) -> None:
        self.directory = directory
        self._ports = ports
        self._running: list[tuple[subprocess.Popen[bytes], Path]] = []

    def environment(self) -> dict[str, str]:
        kept = environment_without_settings()
        return {name: kept[name] for name in kept if name != "VIRTUAL_ENV"}

    def adapted(self, script: str) -> str:
        for name, port in self._ports.items():
            script = script.replace(name, str(port))
        return script

    def leave_running(self, script: str, port: str) -> None:
        """Pastes a script that does not end, and returns once it writes that its server listens.

        That the port can be connected to does not show it: another program may have it for a
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
            if f"127.0.0.1:{self._ports[port]}" in written.read_text():
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


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Terminals]:
    """Terminals in the root of a clone."""
    for name in ("clients", "service", "protos", "pyproject.toml", "README.md", "LICENSE"):
        (tmp_path / name).symlink_to(ROOT / name)
    running = Terminals(tmp_path, {"50051": free_port(), "8000": free_port()})
    yield running
    running.stop()


def follow(terminals: Terminals) -> None:
    """Does all that the tutorial says after the installation."""
    [declared] = blocks(FASTAPI, "yaml")
    [service] = blocks(FASTAPI, "python")
    _, serve, start, call, revoke = blocks(FASTAPI, "sh")
    (terminals.directory / "shop.yaml").write_text(declared)
    (terminals.directory / "shop.py").write_text(service)
    terminals.leave_running(serve, "50051")
    terminals.leave_running(start, "8000")
    activate = ". tutorial-venv/bin/activate\n"
    said = terminals.paste(f"{activate}{call}\n{revoke}")
    shown = [json.loads(line) for text in blocks(FASTAPI, "json") for line in text.splitlines()]
    assert answers_in(said) == shown


def answers_in(said: str) -> list[Any]:
    """The JSON that commands of curl have written one behind another."""
    found: list[Any] = []
    decoder = json.JSONDecoder()
    position = 0
    while match := re.compile(r"[\[{]").search(said, position):
        value, position = decoder.raw_decode(said, match.start())
        found.append(value)
    return found


def test_the_first_guarded_service_is_guarded(terminals: Terminals) -> None:
    """What would be installed is there already."""
    scripts = terminals.directory / "tutorial-venv" / "bin"
    scripts.mkdir(parents=True)
    (scripts / "activate").write_text(f'export PATH="{Path(sys.executable).parent}:$PATH"\n')
    follow(terminals)


@pytest.mark.slow
def test_the_first_guarded_service_is_guarded_in_a_fresh_environment(terminals: Terminals) -> None:
    for name in ("clients", "service", "protos"):
        (terminals.directory / name).unlink()
        shutil.copytree(
            ROOT / name,
            terminals.directory / name,
            ignore=shutil.ignore_patterns("node_modules", "target", "__pycache__"),
        )
    terminals.paste(blocks(FASTAPI, "sh")[0])
    follow(terminals)


@needs_jq
@pytest.mark.parametrize(
    ("system", "ends_with"),
    [
        ("quantumsafe", "AUTH_002"),
        pytest.param("quicksrv", "unauthorized", marks=pytest.mark.slow),
        pytest.param("sitequest", "UNAUTHORIZED", marks=pytest.mark.slow),
        pytest.param("supascale", "invalid_api_key", marks=pytest.mark.slow),
        pytest.param("xquik", "invalid_token", marks=pytest.mark.slow),
    ],
)
def test_the_demo_prints_commands_that_can_be_pasted(system: str, ends_with: str) -> None:
    process = subprocess.Popen(
        ["make", "demo", f"SYSTEM={system}", "--assume-old=.venv/.dev"],
        cwd=ROOT,
        env={**environment_without_settings(), "PORT": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        printed = ""
        for line in process.stdout:
            printed += line
            if line.startswith("# Ctrl-C"):
                break
        script = printed[printed.index("URL=") :]
        ended = subprocess.run(
            ["bash", "-ec", script], capture_output=True, text=True, check=False, timeout=60
        )
        assert ended.returncode == 0, ended.stderr
        last = answers_in(ended.stdout)[-1]
        assert ends_with in json.dumps(last)
        if system == "quantumsafe":
            [shown] = blocks(read("docs/tutorials/quantumsafe.md"), "json")
            assert last["error"] == json.loads(shown)["error"]
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
