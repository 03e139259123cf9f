"""Peppers as text. See `versioned_secrets`."""

from __future__ import annotations

from keyfence_server.adapters.files.versioned_secrets import (
    generate_versioned_secret,
    parse_versioned_secrets,
)
from keyfence_server.domain.secrets import MINIMUM_PEPPER_SIZE, Peppers


def parse_peppers(text: str) -> Peppers:
    """Reads peppers from lines.

    Raises:
        ValueError: with the line's number, and nothing of what it says.
    """
    return Peppers(parse_versioned_secrets(text))


def generate_pepper() -> str:
    """A new first pepper, as text."""
    return generate_versioned_secret(MINIMUM_PEPPER_SIZE)
