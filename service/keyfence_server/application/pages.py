"""Pages of a listing, by keyset: where the last page ended, and not how many went before.

A token says after which item to continue, and is valid for the same question only. It is neither
secret nor signed: a caller with a made-up token sees only what that caller may see anyway.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

from keyfence_server.application.callers import Caller
from keyfence_server.domain.errors import InvalidInput

T = TypeVar("T")

DEFAULT_PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 1000
_MARK_LENGTH: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """Which page of a listing is asked for. The fields that a listing adds say what is listed."""

    page_size: int = 0
    page_token: str = ""


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


@dataclass(frozen=True, slots=True)
class Paging:
    """A page that is asked for. Made by `Paging.read`.

    Attributes:
        limit: how many items it holds at most.
        after: the item after which it begins; None for the first page.
    """

    limit: int
    after: str | None
    _mark: bytes

    @classmethod
    def read(cls, caller: Caller, asked: PageRequest) -> Paging:
        """The page that a caller asks for.

        Raises:
            InvalidInput: its size is wrong, or its token is none, or one for another question.
        """
        question = f"{caller.credential_id} {replace(asked, page_size=0, page_token='')}"
        mark = hashlib.sha256(question.encode()).digest()[:_MARK_LENGTH]
        limit = read_page_size(asked.page_size)
        return cls(limit, _after(asked.page_token, mark) if asked.page_token else None, mark)

    def token(self, last: str) -> str:
        """The token of the page that begins after an item."""
        return base64.urlsafe_b64encode(self._mark + last.encode()).decode().rstrip("=")

    def page(self, found: Sequence[T], place: Callable[[T], str]) -> Page[T]:
        """The page of what was found, which is one more than the limit if there is more.

        Args:
            place: what tokens say of an item.
        """

        def token_after(item: T) -> str:
            return self.token(place(item))

        items = tuple(found[: self.limit])
        is_last = len(found) <= self.limit
        return Page(items, "" if is_last else token_after(items[-1]), token_after)


def read_page_size(page_size: int) -> int:
    """How many items a page holds; 0 stands for the default. Raises `InvalidInput`."""
    if page_size == 0:
        return DEFAULT_PAGE_SIZE
    if not 1 <= page_size <= MAX_PAGE_SIZE:
        raise InvalidInput.field("page_size", f"1 to {MAX_PAGE_SIZE}, or 0 for {DEFAULT_PAGE_SIZE}")
    return page_size


def _after(token: str, mark: bytes) -> str:
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        its_mark, last = raw[:_MARK_LENGTH], raw[_MARK_LENGTH:].decode()
    except (binascii.Error, ValueError):
        its_mark, last = b"", ""
    if not last or its_mark != mark:
        raise InvalidInput.field(
            "page_token",
            "is not the next_page_token of this listing: send the token unchanged, with "
            "the other fields of the first request",
        )
    return last
