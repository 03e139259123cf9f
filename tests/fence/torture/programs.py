"""The clients of other languages, as holders: the programs that run the table of scenarios."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from conformance.programs import LANGUAGES


def missing_tools() -> dict[str, str]:
    """The languages whose program cannot be built here, each with the tool that is not there."""
    missing = {name: language.missing_tool() for name, language in LANGUAGES.items()}
    return {name: tool for name, tool in missing.items() if tool is not None}


@functools.cache
def built_programs() -> Mapping[str, list[str]]:
    """The command of each language that can be built here. In CI that is every one."""
    directory = Path(tempfile.mkdtemp(prefix="kf-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    missing = missing_tools()
    commands = {}
    for name, language in LANGUAGES.items():
        if name not in missing:
            (directory / name).mkdir()
            commands[name] = language.build("scenario", directory / name)
    return commands
