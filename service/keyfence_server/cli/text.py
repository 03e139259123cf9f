"""Text that can be sent to a server."""

from __future__ import annotations


def is_text(value: object) -> bool:
    """Whether the value is text that UTF-8 can write. JSON can hold halves of characters, and
    bytes of a command line that are not UTF-8 reach Python as such."""
    return isinstance(value, str) and not any("\ud800" <= one <= "\udfff" for one in value)
