"""The public services that `bench.peers` measures: their versions, and how they are built.

`go install` builds a version with the dependencies that its own authors chose, and verifies each
module by Go's checksum database. The programs go into `build/peers`, which Git ignores.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.processes import ROOT

COMMAND: Final = 'make bench ARGS="--only peers"'
_BUILT: Final = ROOT / "build" / "peers"
_LAST_LINES: Final = 5


@dataclass(frozen=True, slots=True)
class Program:
    """A service that is built from its public module.

    Attributes:
        name: of the service, for people.
        command: the program, which is the last part of its package's path too.
        checksum: of the module's source, as in a `go.sum`.
    """

    name: str
    command: str
    module: str
    version: str
    checksum: str

    @property
    def path(self) -> Path:
        """Where the program of this version is, once it is built."""
        return _BUILT / self.version / self.command

    @property
    def title(self) -> str:
        """The name with the version."""
        return f"{self.name} {self.version}"

    def build(self) -> None:
        """Builds the program; takes minutes. Raises `CannotBuild`."""
        source = f"{self.module}@{self.version}"
        told = json.loads(_go("mod", "download", "-json", source))
        if told["Sum"] != self.checksum:
            raise CannotBuild(f"{source} has the checksum {told['Sum']}, not {self.checksum}")
        _go("install", f"{self.module}/cmd/{self.command}@{self.version}", into=self.path.parent)


OPENFGA: Final = Program(
    "OpenFGA",
    "openfga",
    "github.com/openfga/openfga",
    "v1.22.1",
    "h1:gl5DiX841ZK3GSTAbgUUYEpiAfAK4EZFMQYW1NQmK8U=",
)
SPICEDB: Final = Program(
    "SpiceDB",
    "spicedb",
    "github.com/authzed/spicedb",
    "v1.56.2",
    "h1:24KUzfySy7OyjoCEqunkfuYZQIpQsZvBxf4x0Wgov7w=",
)


class CannotBuild(Exception):
    """A program cannot be built; the text says why."""


def programs(*, build: bool) -> list[Program]:
    """The programs that are built. Prints which are left out, and why.

    Args:
        build: whether to build those that are not.
    """
    if shutil.which("go") is None:
        print("SKIPPED: peers, since there is no go")
        return []
    ready: list[Program] = []
    for program in (OPENFGA, SPICEDB):
        if program.path.exists():
            ready.append(program)
        elif not build:
            print(f"{program.title} is left out, since it is not built: {COMMAND} builds it.")
        else:
            print(f"Building {program.title}, which takes some minutes", flush=True)
            try:
                program.build()
            except CannotBuild as error:
                print(f"SKIPPED: {program.title}, which cannot be built: {error}")
            else:
                ready.append(program)
    return ready


def go_version() -> str:
    """The version of Go that builds."""
    return _go("env", "GOVERSION").strip().removeprefix("go")


def _go(*arguments: str, into: Path = _BUILT) -> str:
    # The public programs are released without C, too. No other Go than this one is downloaded.
    variables = {"GOBIN": str(into), "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
    done = subprocess.run(
        ["go", *arguments],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        # With -json the error is in the output.
        said = f"{done.stdout}{done.stderr}".splitlines()
        lines = [line for line in said if not line.startswith("go: downloading ")]
        raise CannotBuild("\n".join([f"go {' '.join(arguments)}", *lines[-_LAST_LINES:]]))
    return done.stdout
