"""Secrets with versions as text: a line for each, `VERSION:BASE64`.

Peppers are written so, and the keys that sign sessions. A new one is added with a
higher version, above or below the old ones, and is used from then on; the old ones
stay for what was made under them.
"""

from __future__ import annotations

import base64
import binascii
import secrets


def parse_versioned_secrets(text: str) -> dict[int, bytes]:
    """Reads secrets from lines. Empty lines and lines that start with `#` say nothing.

    Raises:
        ValueError: with the line's number, and nothing of what it says.
    """
    by_version: dict[int, bytes] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        version, separator, encoded = entry.partition(":")
        if not separator or not (version.isascii() and version.isdigit()):
            raise ValueError(f"line {number}: not of the form VERSION:BASE64, for example 1:…")
        if int(version) in by_version:
            raise ValueError(f"line {number}: version {int(version)} is there twice")
        try:
            by_version[int(version)] = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            raise ValueError(f"line {number}: the text after the colon is not base64") from None
    return by_version


def generate_versioned_secret(size: int) -> str:
    """A new first secret of so many bytes, as text."""
    return f"1:{base64.b64encode(secrets.token_bytes(size)).decode()}\n"
