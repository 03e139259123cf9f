"""Secrets as text: a line for each. Empty lines and lines that start with `#` say nothing.

Peppers and the keys that sign sessions have versions: `VERSION:BASE64`. A new one is added with a
higher version, above or below the old ones, and is used from then on; the old ones stay for what
was made under them. The secrets under which other programs have made HMACs of their keys are
`KEYSPACE:BASE64`.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from keyfence_server.domain.keyspace_problems import is_keyspace_name
from keyfence_server.domain.secrets import Peppers

MAX_IMPORT_SECRETS: Final = 4
"""Of a keyspace: each is one more digest to look a presented key up by."""


def parse_versioned_secrets(text: str) -> dict[int, bytes]:
    """Reads secrets by version.

    Raises:
        ValueError: with the line's number, and nothing of what it says.
    """
    by_version: dict[int, bytes] = {}
    for number, name, encoded in _lines(text):
        if not (name.isascii() and name.isdigit()) or encoded is None:
            raise ValueError(f"line {number}: not of the form VERSION:BASE64, for example 1:…")
        version = int(name)
        if version in by_version:
            raise ValueError(f"line {number}: version {version} is given twice")
        by_version[version] = _decoded(number, encoded)
    return by_version


def parse_peppers(
    text: str, import_secrets: Mapping[str, Sequence[bytes]] = MappingProxyType({})
) -> Peppers:
    """Reads peppers. Raises `ValueError` as `parse_versioned_secrets`."""
    return Peppers(parse_versioned_secrets(text), import_secrets)


def generate_versioned_secret(size: int) -> str:
    """A new first secret of so many bytes, as text."""
    return f"1:{base64.b64encode(secrets.token_bytes(size)).decode()}\n"


def parse_import_secrets(text: str) -> dict[str, list[bytes]]:
    """Reads secrets by keyspace. Raises `ValueError` as `parse_versioned_secrets`."""
    by_keyspace: dict[str, list[bytes]] = {}
    for number, keyspace, encoded in _lines(text):
        if not is_keyspace_name(keyspace) or encoded is None:
            raise ValueError(f"line {number}: not of the form KEYSPACE:BASE64, for example shop:…")
        secret = _decoded(number, encoded)
        if not secret:
            raise ValueError(f"line {number}: the secret is empty")
        of_keyspace = by_keyspace.setdefault(keyspace, [])
        if len(of_keyspace) == MAX_IMPORT_SECRETS:
            raise ValueError(f"line {number}: a keyspace has at most {MAX_IMPORT_SECRETS} secrets")
        of_keyspace.append(secret)
    return by_keyspace


def _lines(text: str) -> Iterator[tuple[int, str, str | None]]:
    """The number of each line that says something, what is before its colon, and what is behind
    it; None without a colon."""
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.strip()
        if entry and not entry.startswith("#"):
            name, colon, encoded = entry.partition(":")
            yield number, name, encoded if colon else None


def _decoded(number: int, encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise ValueError(f"line {number}: the text after the colon is not base64") from None
