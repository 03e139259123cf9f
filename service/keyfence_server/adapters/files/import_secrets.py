"""Secrets of other programs as text: a line for each, `KEYSPACE:BASE64`.

Under them the programs have made HMACs of their keys. They are kept as peppers are: outside the
database.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from keyfence_server.domain.keyspace_problems import is_keyspace_name

MAX_SECRETS: Final = 4
"""Secrets of a keyspace: each is one more digest to look a presented key up by."""


def parse_import_secrets(text: str) -> dict[str, list[bytes]]:
    """Reads secrets by keyspace. Empty lines and lines that start with `#` say nothing.

    Raises:
        ValueError: with the line's number, and nothing of what it says.
    """
    by_keyspace: dict[str, list[bytes]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        keyspace, _, encoded = entry.partition(":")
        if not is_keyspace_name(keyspace):
            raise ValueError(f"line {number}: not of the form KEYSPACE:BASE64, for example shop:…")
        try:
            secret = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            raise ValueError(f"line {number}: what follows the colon is not base64") from None
        if not secret:
            raise ValueError(f"line {number}: the secret is empty")
        secrets = by_keyspace.setdefault(keyspace, [])
        if len(secrets) == MAX_SECRETS:
            raise ValueError(f"line {number}: a keyspace has at most {MAX_SECRETS} secrets")
        secrets.append(secret)
    return by_keyspace
