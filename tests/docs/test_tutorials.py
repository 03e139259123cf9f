"""The tutorials work as they stand, word for word."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from docs.pages import ROOT, blocks, read
from docs.terminals import Terminals, free_port
from support.served import environment_without_settings

FASTAPI: Final = read("docs/tutorials/fastapi.md")
GRPC: Final = read("docs/tutorials/grpc.md")

_log = logging.getLogger(__name__)

ACTIVATE: Final = ". tutorial-venv/bin/activate\n"

needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="the commands need jq")


def in_an_empty_directory(
    directory: Path,
    variables: Mapping[str, str] | None = None,
    replaced: Mapping[str, str] | None = None,
) -> Terminals:
    """Terminals at whose ports nothing listens."""
    directory.mkdir(exist_ok=True)
    ports = {"50051": str(free_port()), "8000": str(free_port())}
    return Terminals(directory, {**ports, **(replaced or {})}, variables)


def install_nothing(terminals: Terminals) -> None:
    """What would be installed is there already."""
    scripts = terminals.directory / "tutorial-venv" / "bin"
    scripts.mkdir(parents=True)
    (scripts / "activate").write_text(f'export PATH="{Path(sys.executable).parent}:$PATH"\n')


def follow_fastapi(terminals: Terminals) -> None:
    """Does all that the tutorial says after the installation."""
    [declared] = blocks(FASTAPI, "yaml")
    [service] = blocks(FASTAPI, "python")
    _, serve, start, call, revoke = blocks(FASTAPI, "sh")
    (terminals.directory / "shop.yaml").write_text(declared)
    (terminals.directory / "shop.py").write_text(service)
    terminals.leave_running(serve, "127.0.0.1:50051")
    terminals.leave_running(start, "127.0.0.1:8000")
    said = terminals.paste(f"{ACTIVATE}{call}\n{revoke}")
    shown = [json.loads(line) for text in blocks(FASTAPI, "json") for line in text.splitlines()]
    assert answers_in(said) == shown


def follow_grpc(terminals: Terminals) -> None:
    """Does all that the tutorial says after the installation."""
    [declared] = blocks(GRPC, "yaml")
    [proto] = blocks(GRPC, "proto")
    service, client = blocks(GRPC, "python")
    _, serve, stubs, start, call, revoke = blocks(GRPC, "sh")
    for name, text in {
        "shop.yaml": declared,
        "shop.proto": proto,
        "shop.py": terminals.adapted(service),
        "call.py": terminals.adapted(client),
    }.items():
        (terminals.directory / name).write_text(text)
    terminals.leave_running(serve, "127.0.0.1:50051")
    terminals.paste(ACTIVATE + stubs)
    terminals.leave_running(start, "listens on 127.0.0.1:8000")
    said = terminals.paste(f"{ACTIVATE}{call}\n{revoke}")
    answers = [line for line in said.splitlines() if re.match("[A-Z][A-Za-z]+: ", line)]
    assert answers == "".join(blocks(GRPC, "text")).splitlines()


def answers_in(said: str) -> list[Any]:
    """The JSON that commands of curl have written one behind another."""
    found: list[Any] = []
    decoder = json.JSONDecoder()
    position = 0
    while match := re.compile(r"[\[{]").search(said, position):
        value, position = decoder.raw_decode(said, match.start())
        found.append(value)
    return found


def test_the_first_guarded_service_is_guarded(tmp_path: Path) -> None:
    terminals = in_an_empty_directory(tmp_path)
    try:
        install_nothing(terminals)
        follow_fastapi(terminals)
    finally:
        terminals.stop()


def test_the_first_guarded_grpc_service_is_guarded(tmp_path: Path) -> None:
    terminals = in_an_empty_directory(tmp_path, replaced={"$PACKAGES": str(ROOT / "protos")})
    try:
        install_nothing(terminals)
        follow_grpc(terminals)
    finally:
        terminals.stop()


@pytest.mark.slow
def test_the_first_guarded_services_need_the_wheels_alone(tmp_path: Path) -> None:
    """No clone: empty directories, a fresh environment, and the wheels as a registry has them."""
    wheels = tmp_path / "wheels"
    build = "-m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir"
    subprocess.run(
        [sys.executable, *build.split(), wheels, "./clients/python", "."], cwd=ROOT, check=True
    )
    registry = {"PIP_FIND_LINKS": str(wheels)}
    began = time.monotonic()
    over_http = in_an_empty_directory(tmp_path / "http", registry)
    over_grpc = in_an_empty_directory(tmp_path / "grpc", registry)
    try:
        over_http.paste(blocks(FASTAPI, "sh")[0])
        installed = time.monotonic()
        follow_fastapi(over_http)
        guarded = time.monotonic()
        over_http.stop()
        (over_grpc.directory / "tutorial-venv").symlink_to(over_http.directory / "tutorial-venv")
        over_grpc.paste(blocks(GRPC, "sh")[0].partition("\n")[2])
        follow_grpc(over_grpc)
    finally:
        over_http.stop()
        over_grpc.stop()
    _log.info("installed in %.1f s", installed - began)
    _log.info("guarded and revoked in %.1f s more", guarded - installed)


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
