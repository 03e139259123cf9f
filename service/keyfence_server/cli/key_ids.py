"""Telling keys' ids from keys on the command line."""

from __future__ import annotations

import re
from typing import Final

import typer

_KEY_ID: Final = re.compile(r"key_[0-9a-z]{1,64}")


def is_key_id(text: str) -> bool:
    """Whether a text has the form of a key's id."""
    return _KEY_ID.fullmatch(text) is not None


def key_id(text: str) -> str:
    """A key's id. What is none may be a key, typed by mistake: it is neither sent nor shown."""
    if not is_key_id(text):
        raise typer.BadParameter(
            "this is not a key's id, which looks like key_01jd2k7v9x4m8r5t6w3y1z0abc; "
            "`keyfence keys list` shows the ids. If it is the key itself, give it on standard "
            "input: `keyfence keys find -` shows its id, `keyfence keys revoke -` revokes it"
        )
    return text
