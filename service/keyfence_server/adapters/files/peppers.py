"""Peppers as text. See `versioned_secrets`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from keyfence_server.adapters.files.versioned_secrets import (
    generate_versioned_secret,
    parse_versioned_secrets,
)
from keyfence_server.domain.secrets import MINIMUM_PEPPER_SIZE, Peppers

_NONE: Final[Mapping[str, Sequence[bytes]]] = MappingProxyType({})


def parse_peppers(text: str, import_secrets: Mapping[str, Sequence[bytes]] = _NONE) -> Peppers:
    """Reads peppers from lines.

    Args:
        import_secrets: see `Peppers`.

    Raises:
        ValueError: with the line's number, and nothing of what it says.
    """
    return Peppers(parse_versioned_secrets(text), import_secrets)


def generate_pepper() -> str:
    """A new first pepper, as text."""
    return generate_versioned_secret(MINIMUM_PEPPER_SIZE)
