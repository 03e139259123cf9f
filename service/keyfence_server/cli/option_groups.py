"""Options that belong together: a parameter of a command that is a dataclass stands for its fields.

Each field is annotated as an option. So the options of several commands, or of a value that goes
on to other modules, stand once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer has to see it: the fields in place of the dataclasses."""
    own = inspect.signature(command, eval_str=True).parameters
    groups: dict[str, Any] = {
        name: one.annotation for name, one in own.items() if is_dataclass(one.annotation)
    }
    options: list[inspect.Parameter] = []
    for name, one in own.items():
        if name in groups:
            options += inspect.signature(groups[name], eval_str=True).parameters.values()
        else:
            options.append(one)

    @wraps(command)
    def called(**given: Any) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{one.name: given.pop(one.name) for one in fields(kind)})
        command(**given)

    show_options(called, options)
    return called


def show_options(command: Callable[..., None], options: Iterable[inspect.Parameter]) -> None:
    """Has Typer see these options of the command, in place of its parameters."""
    # By keyword, because options may follow others that have a default.
    by_keyword = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in options]
    command.__signature__ = inspect.Signature(by_keyword)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in by_keyword}


def given(**options: object) -> dict[str, Any]:
    """The options that were given, for a call that changes nothing else."""
    return {name: value for name, value in options.items() if value is not None}
