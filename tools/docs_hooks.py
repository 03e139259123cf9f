"""Hooks of MkDocs: links that leave the documentation, and the page of every command.

The pages link to files of the repository, which are not on the site. Such a link becomes its text
and the file's path; one to a file that does not exist is a warning, which fails the build.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any, Final

from mkdocs.structure.files import File
from typer.main import get_command

from keyfence_server.cli.app import app

ROOT: Final = Path(__file__).parents[1]
_LINK: Final = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])+)\]\(((?:\.\./)+[^)#\s]+)(#[^)\s]*)?\)")

_log = logging.getLogger("mkdocs.hooks.keyfence")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Replaces the links that leave the documentation."""
    docs = Path(config["docs_dir"])
    source = docs / page.file.src_uri

    def replaced(match: re.Match[str]) -> str:
        target = (source.parent / match[2]).resolve()
        if target.is_relative_to(docs) and "reports" not in target.parts:
            return match[0]
        if not target.exists():
            _log.warning("%s links to %s, which does not exist", page.file.src_uri, match[2])
        path = target.relative_to(ROOT).as_posix()
        text = match[1].strip("`")
        return f"`{path}`" if text in {path, Path(path).name} else f"{match[1]} (`{path}`)"

    return _LINK.sub(replaced, markdown)


def on_files(files: Any, *, config: Any) -> Any:
    """Adds the page of every command, made from the command itself."""
    files.append(File.generated(config, "reference/commands.md", content=commands_page()))
    return files


def commands_page() -> str:
    """Every command with its help and options, as Markdown."""
    lines = ["# Every command and option", "", "Made from the program itself.", ""]
    for path, command in _commands(get_command(app), ("keyfence",)):
        lines += [f"## `{' '.join(path)}`", "", _text(command.help), ""]
        rows = [_row(parameter) for parameter in command.params if parameter.name != "help"]
        if rows:
            lines += ["| option | what it does |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _commands(command: Any, path: tuple[str, ...]) -> Any:
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from _commands(below, (*path, name))


def _row(parameter: Any) -> str:
    names = [*parameter.opts, *parameter.secondary_opts]
    if parameter.param_type_name == "argument":
        names = [parameter.metavar or parameter.name.upper()]
    text = _text(getattr(parameter, "help", "")).replace("|", "\\|").replace("\n", " ")
    variable = getattr(parameter, "envvar", None)
    if variable:
        text += f" Or the variable `{variable}`."
    return f"| {', '.join(f'`{name}`' for name in names)} | {text} |"


def _text(text: str | None) -> str:
    return (text or "").replace("\f", "").strip()
