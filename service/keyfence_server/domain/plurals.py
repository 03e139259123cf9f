"""Counts with their noun, in the singular or the plural."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """As in "1 key" and "2 keys". The noun is in the singular, and takes an s."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
