"""Options that are written NAME=VALUE and may be repeated."""

from __future__ import annotations

from collections.abc import Iterable

import typer


def read_pairs(
    option: str, texts: Iterable[str] | None, *, may_be_empty: bool = False
) -> dict[str, str]:
    """The values by name, as they are given on the command line.

    Args:
        option: the name of the option, for errors.
        may_be_empty: whether a value may be empty.

    Raises:
        typer.BadParameter: a text is not NAME=VALUE, or a name is given twice.
    """
    values: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not name or not equals or not (value or may_be_empty):
            raise typer.BadParameter("write NAME=VALUE", param_hint=option)
        if name in values:
            raise typer.BadParameter(f'"{name}" is given twice', param_hint=option)
        values[name] = value
    return values


def read_labels(texts: Iterable[str] | None) -> dict[str, str]:
    """Labels as they are given on the command line. Raises as `read_pairs`."""
    return read_pairs("--label", texts, may_be_empty=True)
