"""The gate: every part that must pass before a change is taken. `.ci/run` starts it.

Parts run side by side as far as the cores allow. The model checker needs none of what is installed
and measures no time: it begins first, and runs at the lowest priority in what time the others
leave. A part that fails does not stop the others, so one run shows all that is wrong; only without
its tools is there nothing to run. A part whose toolchain is missing says `SKIPPED:` and why. In CI,
where every toolchain must be there, that is a failure.

The Makefile has each part as a target. A part of another language adds its target there, and a
line to `PARTS` here.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

CORES: Final = 2
LOGS: Final = Path("build/gate")
_LAST_LINES: Final = 3
_LAST_LINES_OF_A_FAILURE: Final = 60
_SKIPPED: Final = re.compile(r"^SKIPPED[: ].*", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Part:
    """A command that must succeed.

    Attributes:
        cores: how many it uses. One that uses all of them runs beside no other of its list.
        niceness: 19 for one that takes only the time which the others leave.
    """

    name: str
    command: Sequence[str]
    cores: int = 1
    niceness: int = 0


class Outcome(StrEnum):
    """How a part ended."""

    OK = "ok"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a part ended, and what that took.

    Attributes:
        seconds: by the clock on the wall.
        cpu_seconds: of the part and all the processes that it waited for.
    """

    part: Part
    outcome: Outcome
    seconds: float
    cpu_seconds: float
    log: Path

    def last_lines(self, count: int) -> str:
        """The end of what the part wrote."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-count:])

    def skipped(self) -> list[str]:
        """The lines that say what was skipped."""
        return _SKIPPED.findall(self.log.read_text(encoding="utf-8", errors="replace"))


# Beside all others. A run of the checker may wait long for its turn.
BACKGROUND: Final = Part("model", ("make", "model", "ARGS=--limit 5400"), niceness=19)
# Before all others: they install what the others run, and touch what make compares times with.
PREPARATIONS: Final = (
    Part("install", ("make", "install")),
    Part("locks", ("make", "check-lock")),
)
PARTS: Final = (
    Part("test-typescript", ("make", "test-typescript")),
    Part("lint", ("make", "--keep-going", "lint")),
    Part("generated", ("make", "check-generated")),
    Part("breaking", ("make", "breaking")),
    Part("wheels", ("make", "sbom")),
    Part("audit", ("make", "audit")),
    Part("test-go", ("make", "test-go")),
    Part("test-helm", ("make", "test-helm")),
    Part("test-java", ("make", "test-java")),
    Part("test-rust", ("make", "test-rust")),
    Part("docs", ("make", "docs")),
    # With the smallest counts: it shows that each measurement works, and no number counts. It
    # uses what the parts of the languages have compiled.
    Part("bench", ("make", "bench", "ARGS=--smoke --report build/smoke.json")),
    Part("test", ("make", "test"), cores=CORES),
    Part("test-slow", ("make", "test-slow"), cores=CORES),
)
EVERY_PART: Final = (*PREPARATIONS, *PARTS, BACKGROUND)


def run(part: Part, logs: Path, *, in_ci: bool) -> Verdict:
    """Runs a part to its end, its output in a file."""
    log = logs / f"{part.name}.log"
    command = part.command
    if part.niceness:
        command = ("nice", "-n", str(part.niceness), *command)
    _say(f"=== {part.name}: {' '.join(command)}")
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    verdict = Verdict(
        part, Outcome.OK, time.monotonic() - began, usage.ru_utime + usage.ru_stime, log
    )
    outcome = Outcome.SKIPPED if verdict.skipped() else Outcome.OK
    if process.returncode or (in_ci and outcome is Outcome.SKIPPED):
        outcome = Outcome.FAILED
    verdict = Verdict(part, outcome, verdict.seconds, verdict.cpu_seconds, log)
    _say(f"--- {_line(verdict)}")
    if outcome is Outcome.FAILED:
        _say(verdict.last_lines(_LAST_LINES_OF_A_FAILURE))
    return verdict


def run_all(parts: Sequence[Part], logs: Path, *, in_ci: bool, cores: int = CORES) -> list[Verdict]:
    """Runs parts side by side, in their order, as far as the cores allow.

    Returns:
        The verdicts in the parts' order.
    """
    waiting, running, ended = list(parts), dict[Future[Verdict], Part](), dict[str, Verdict]()
    with ThreadPoolExecutor(max_workers=cores) as threads:
        while waiting or running:
            free = cores - sum(min(part.cores, cores) for part in running.values())
            if waiting and min(waiting[0].cores, cores) <= free:
                part = waiting.pop(0)
                running[threads.submit(run, part, logs, in_ci=in_ci)] = part
                continue
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                ended[running.pop(future).name] = future.result()
    return [ended[part.name] for part in parts]


def run_gate(logs: Path, *, in_ci: bool) -> list[Verdict]:
    """Runs every part, or only the first ones if nothing can be installed."""
    with ThreadPoolExecutor(max_workers=1) as beside:
        background = beside.submit(run, BACKGROUND, logs, in_ci=in_ci)
        verdicts = run_all(PREPARATIONS, logs, in_ci=in_ci, cores=1)
        if verdicts[0].outcome is not Outcome.FAILED:
            verdicts += run_all(PARTS, logs, in_ci=in_ci)
        return [*verdicts, background.result()]


def conclude(verdicts: Sequence[Verdict]) -> int:
    """Says how every part ended, which were skipped and why, and which failed.

    Returns:
        The exit code: 1 if a part failed.
    """
    _say("\n=== The last lines of each part")
    for verdict in verdicts:
        _say(f"--- {verdict.part.name} ({verdict.log})\n{verdict.last_lines(_LAST_LINES)}")
    _say("\n=== Verdicts")
    for verdict in verdicts:
        _say(_line(verdict))
        for line in verdict.skipped():
            _say(f"    {line}")
    failed = [verdict.part.name for verdict in verdicts if verdict.outcome is Outcome.FAILED]
    _say(f"FAILED: {', '.join(failed)}" if failed else "The gate is open.")
    return 1 if failed else 0


def main() -> int:
    """Runs the gate."""
    in_ci = bool(os.environ.get("CI"))
    os.environ["PYTHONUNBUFFERED"] = "1"
    # Nothing is compiled a second time after a change.
    os.environ["CARGO_INCREMENTAL"] = "0"
    # A shell lets what it starts in the background ignore SIGINT, and tests send it to servers.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    LOGS.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    code = conclude(run_gate(LOGS, in_ci=in_ci))
    _say(f"{time.monotonic() - began:.0f} s in all")
    return code


def _line(verdict: Verdict) -> str:
    return (
        f"{verdict.part.name:<12} {verdict.outcome:<8} {verdict.seconds:5.0f} s"
        f" {verdict.cpu_seconds:6.0f} s of CPU"
    )


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
