"""The tutorials work as they stand, word for word."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from docs.pages import ROOT, blocks, read
from docs.terminals import Terminals, free_port
from support.served import environment_without_settings

FASTAPI: Final = read("docs/tutorials/fastapi.md")

FILES: Final = ("pyproject.toml", "README.md", "LICENSE")

needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="the commands need jq")


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Terminals]:
    """Terminals in the root of a clone."""
    for name in ("clients", "service", "protos", "deploy", "examples", *FILES):
        (tmp_path / name).symlink_to(ROOT / name)
    running = Terminals(tmp_path, {"50051": str(free_port()), "8000": str(free_port())})
    yield running
    running.stop()


def follow(terminals: Terminals) -> None:
    """Does all that the tutorial says after the installation."""
    [declared] = blocks(FASTAPI, "yaml")
    [service] = blocks(FASTAPI, "python")
    _, serve, start, call, revoke = blocks(FASTAPI, "sh")
    (terminals.directory / "shop.yaml").write_text(declared)
    (terminals.directory / "shop.py").write_text(service)
    terminals.leave_running(serve, "127.0.0.1:50051")
    terminals.leave_running(start, "127.0.0.1:8000")
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
