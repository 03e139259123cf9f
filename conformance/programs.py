"""The clients of other languages, and how their programs are built.

Each client has two programs that read commands from their standard input: `conformance` for the
driver of this package, and `scenario` for the table in tests/scenarios, the torture and the
benchmark of the languages.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CLIENTS: Final = Path(__file__).parents[1] / "clients"
_FIRST_COMPILER_ALONE: Final = "-XX:TieredStopAtLevel=1"
_PROTOS: Final = _CLIENTS.parent / "protos"


@dataclass(frozen=True, slots=True)
class Language:
    """A language that has a client.

    Attributes:
        tools: the commands without which nothing can be built.
        build: builds the program of this name in an empty folder, and gives the command to run.
        optimized: of such a command, what makes it one to measure.
    """

    tools: tuple[str, ...]
    build: Callable[[str, Path], list[str]]
    optimized: Callable[[list[str]], list[str]] = list

    def missing_tool(self) -> str | None:
        """The first tool that is not there. In CI every tool must be, and building then fails."""
        if os.environ.get("CI"):
            return None
        return next((tool for tool in self.tools if shutil.which(tool) is None), None)


def _build_go(program: str, directory: Path) -> list[str]:
    built = directory / program
    subprocess.run(
        ["go", "build", "-o", built, f"./internal/{program}"], cwd=_CLIENTS / "go", check=True
    )
    return [str(built)]


def _build_typescript(program: str, _directory: Path) -> list[str]:
    """Compiles into the client's own `build` folder, by one compiler at a time."""
    home = _CLIENTS / "typescript"
    compiled = home / "build" / ".compiled"
    # Tests in several processes build at the same time.
    with (home / "package-lock.json").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(["make", "--silent", "-C", home, "installed"], check=True)
        folders = ("src", "test", "programs", "bench")
        sources = [source for folder in folders for source in (home / folder).glob("**/*.ts")]
        if not _is_newer(compiled, [*sources, home / "package-lock.json", home / "tsconfig.json"]):
            subprocess.run([home / "node_modules" / ".bin" / "tsc", "-p", home], check=True)
            # The compiler writes its output even where it finds errors.
            compiled.touch()
    return ["node", str(home / "build" / "programs" / f"{program}.js")]


def _build_java(program: str, _directory: Path) -> list[str]:
    """Compiles into the client's own `target` folders, by one Maven at a time."""
    module = _CLIENTS / "java"
    classpath = module / "tests" / "target" / "classpath.txt"
    sources = (*module.glob("*/src/**/*"), *module.glob("**/pom.xml"), *_PROTOS.glob("**/*.proto"))
    with (module / "pom.xml").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_newer(classpath, sources):
            maven = ("mvn", "--batch-mode", "--quiet", "-Dspotless.skip")
            subprocess.run([*maven, "process-test-classes"], cwd=module, check=True)
    classes = module / "tests" / "target" / "test-classes"
    name = f"io.github.keyfence.programs.{program.capitalize()}"
    # A program of a minute starts sooner so.
    java = ("java", "-XX:+UseSerialGC", _FIRST_COMPILER_ALONE)
    return [*java, "-cp", f"{classes}:{classpath.read_text().strip()}", name]


def _is_newer(built: Path, sources: Iterable[Path]) -> bool:
    """Whether a file was built after every source."""
    if not built.exists():
        return False
    built_at = built.stat().st_mtime
    return all(source.stat().st_mtime <= built_at for source in sources)


def _optimized_typescript(command: list[str]) -> list[str]:
    return [command[0], "--expose-gc", *command[1:]]


def _optimized_java(command: list[str]) -> list[str]:
    return [part for part in command if part != _FIRST_COMPILER_ALONE]


def _build_rust(program: str, _directory: Path) -> list[str]:
    # With the features of `make test-rust`, so that what it has compiled is used again.
    subprocess.run(
        ["cargo", "build", "--quiet", "--all-features", "--example", program],
        cwd=_CLIENTS / "rust",
        check=True,
    )
    return [str(_CLIENTS / "rust" / "target" / "debug" / "examples" / program)]


def _optimized_rust(command: list[str]) -> list[str]:
    program = Path(command[0])
    subprocess.run(
        ["cargo", "build", "--quiet", "--release", "--all-features", "--example", program.name],
        cwd=_CLIENTS / "rust",
        check=True,
    )
    return [str(_CLIENTS / "rust" / "target" / "release" / "examples" / program.name)]


LANGUAGES: Final[Mapping[str, Language]] = {
    "go": Language(tools=("go",), build=_build_go),
    "typescript": Language(
        tools=("node", "npm"), build=_build_typescript, optimized=_optimized_typescript
    ),
    "java": Language(tools=("java", "mvn"), build=_build_java, optimized=_optimized_java),
    "rust": Language(tools=("cargo",), build=_build_rust, optimized=_optimized_rust),
}
