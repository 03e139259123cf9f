"""Pages of a listing, by keyset: where the last page ended, and not how many went before.

A token says after which item to continue, and is valid for the same question only. It is neither
secret nor signed: a caller with a made-up token sees only what that caller may see anyway.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from keyfence_server.domain.errors import InvalidInput

T = TypeVar("T")

DEFAULT_PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 1000
_MARK_LENGTH: Final = 8


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items of a listing.

    Attributes:
        next_page_token: for the items that follow; empty after the last.
        token_after: the token for what follows an item of the page, so that a page can end
            earlier: its answer may be too large.
    """

    items: tuple[T, ...]
    next_page_token: str
    token_after: Callable[[T], str]

    @classmethod
    def of(cls, found: Sequence[T], limit: int, token_after: Callable[[T], str]) -> Page[T]:
        """The page of what was found, which is one more than the limit if there is more."""
        items = tuple(found[:limit])
        return cls(items, token_after(items[-1]) if len(found) > limit else "", token_after)


def read_page_size(page_size: int) -> int:
    """How many items a page holds; 0 stands for the default. Raises `InvalidInput`."""
    if page_size == 0:
        return DEFAULT_PAGE_SIZE
    if not 1 <= page_size <= MAX_PAGE_SIZE:
        raise InvalidInput.field("page_size", f"1 to {MAX_PAGE_SIZE}, or 0 for {DEFAULT_PAGE_SIZE}")
    return page_size


def write_page_token(last: str, *question: str) -> str:
    """The token that goes on after `last` in the answer to this question."""
    return base64.urlsafe_b64encode(_mark(question) + last.encode()).decode().rstrip("=")


def read_page_token(token: str, *question: str) -> str | None:
    """After which item to go on; None for an empty token, from the start.

    Raises:
        InvalidInput: it is no token, or one for another question.
    """
    if not token:
        return None
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        mark, last = raw[:_MARK_LENGTH], raw[_MARK_LENGTH:].decode()
    except (binascii.Error, ValueError):
        mark, last = b"", ""
    if not last or mark != _mark(question):
        raise InvalidInput.field(
            "page_token",
            "is not the next_page_token of this listing: send the token unchanged, with "
            "the other fields of the first request",
        )
    return last


def _mark(question: tuple[str, ...]) -> bytes:
    return hashlib.sha256("\x00".join(question).encode()).digest()[:_MARK_LENGTH]
