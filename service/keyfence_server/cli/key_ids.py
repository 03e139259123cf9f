"""Telling keys' ids from keys on the command line."""

from __future__ import annotations

import re
from typing import Final

STANDARD_INPUT: Final = "-"
_KEY_ID: Final = re.compile(r"key_[0-9a-z]{1,64}")


def is_key_id(text: str) -> bool:
    """Whether a text has the form of a key's id."""
    return _KEY_ID.fullmatch(text) is not None
