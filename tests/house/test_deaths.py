"""No suite passes in which a process died by a signal that no test had sent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from support.deaths import Deaths

CRASH = "import os, signal; os.kill(os.getpid(), signal.{})"


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL", "SIGTERM"])
def test_a_process_that_dies_by_a_signal_is_told_of(deaths: Deaths, name: str) -> None:
    subprocess.run([sys.executable, "-c", CRASH.format(name)], check=False)
    (told,) = deaths.take()
    assert f"died by {name}" in told
    assert deaths.take() == []


def test_a_death_is_reported_before_the_process_is_waited_for(deaths: Deaths) -> None:
    process = subprocess.Popen([sys.executable, "-c", CRASH.format("SIGSEGV")])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert len(deaths.take()) == 1
    assert process.wait() == -signal.SIGSEGV


async def test_processes_of_asyncio_are_watched_too(deaths: Deaths) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", CRASH.format("SIGSEGV"))
    await process.wait()
    assert len(deaths.take()) == 1


@pytest.mark.parametrize("how", ["kill", "terminate", "os.kill", "os.killpg"])
def test_a_death_that_the_test_wanted_is_none(deaths: Deaths, how: str) -> None:
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    match how:
        case "kill":
            process.kill()
        case "terminate":
            process.terminate()
        case "os.kill":
            os.kill(process.pid, signal.SIGKILL)
        case _:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert deaths.take() == []


def test_another_signal_than_the_one_that_was_sent_is_told_of(deaths: Deaths) -> None:
    """As of a server that crashes while it stops."""
    code = "import os, signal; signal.signal(signal.SIGTERM, lambda *_: os.abort())\n"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{code}print(flush=True)\nsignal.pause()"], stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
    (told,) = deaths.take()
    assert "died by SIGABRT" in told


def test_a_process_that_exits_with_an_error_has_not_died_by_a_signal(deaths: Deaths) -> None:
    subprocess.run([sys.executable, "-c", "raise SystemExit(139)"], check=False)
    assert deaths.take() == []
