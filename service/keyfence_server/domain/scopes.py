"""The names of scopes, and the wildcards that stand for many of them.

A scope's name is one or more parts joined by ":", for example "vps:create". In a grant, and in what
a scope implies, a wildcard may stand instead: "vps:*" for every registered scope below "vps:", at
any depth, and "*" for every registered scope. A wildcard is resolved against the catalog when
scopes are compiled, so that it also covers scopes that are registered later.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Final

MAX_SCOPE_LENGTH: Final = 128
EVERYTHING: Final = "*"

_BESIDES: Final = 3  # bytes of a text in a message besides its own

NAME_RULE: Final = (
    "a scope is one or more parts of a-z, 0-9, '_', '-' and '.', joined by ':', "
    f"at most {MAX_SCOPE_LENGTH} characters"
)

_PART = r"[a-z0-9_.-]+"
_NAME = re.compile(rf"{_PART}(?::{_PART})*")
_WILDCARD = re.compile(rf"\*|{_PART}(?::{_PART})*:\*")


def is_scope_name(text: str) -> bool:
    """Whether the text has the form of a scope's name."""
    return len(text) <= MAX_SCOPE_LENGTH and _NAME.fullmatch(text) is not None


def is_scope_part(text: str) -> bool:
    """Whether the text has the form of one part of a scope's name."""
    return is_scope_name(text) and ":" not in text


def is_wildcard(text: str) -> bool:
    """Whether the text has the form of a wildcard."""
    return len(text) <= MAX_SCOPE_LENGTH and _WILDCARD.fullmatch(text) is not None


def wildcards_over(name: str) -> Iterator[str]:
    """The wildcards that stand for a scope, among others, "*" aside."""
    end = name.find(":")
    while end >= 0:
        yield f"{name[: end + 1]}*"
        end = name.find(":", end + 1)


def size_of_name(name: str) -> int:
    """What a name in a list takes in a message, in bytes, about."""
    return len(name) + _BESIDES


def covers(pattern: str, other: str) -> bool:
    """Whether a scope or wildcard stands for all that another one stands for, now and
    whatever is registered later."""
    if pattern in (EVERYTHING, other):
        return True
    return pattern.endswith(":*") and other.startswith(pattern[:-1])


def size_of(names: Collection[str]) -> int:
    """What names take in a message, in bytes, about."""
    return sum(map(len, names)) + _BESIDES * len(names)


def within_bytes(names: Sequence[str], most: int) -> tuple[str, ...]:
    """The first of the names, as many as take no more than so many bytes."""
    taken = 0
    for index, name in enumerate(names):
        taken += size_of_name(name)
        if taken > most:
            return tuple(names[:index])
    return tuple(names)
