"""Text that can be sent to a server."""

from __future__ import annotations

import re
from typing import Final

_HALF: Final = re.compile("[\ud800-\udfff]")


def is_text(value: object) -> bool:
    """Whether the value is text that UTF-8 can write. JSON can hold halves of characters, and
    bytes of a command line that are not UTF-8 reach Python as such."""
    return isinstance(value, str) and (value.isascii() or _HALF.search(value) is None)
