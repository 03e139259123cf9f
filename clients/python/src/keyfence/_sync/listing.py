# Generated from keyfence/_async/listing.py by tools/generate_sync.py. Do not edit.
"""Going through a list that the server hands out in pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from keyfence.results import Page

Item = TypeVar("Item")


class Listing(Generic[Item]):
    """Everything that a list call finds, fetched page by page as it is consumed.

    Iterate over it for the things themselves, or over `pages()`. Nothing is sent
    before. Each iteration starts anew.
    """

    def __init__(self, fetch: Callable[[str], Page[Item]], page_token: str) -> None:
        self._fetch = fetch
        self._page_token = page_token

    def pages(self) -> Iterator[Page[Item]]:
        """The pages, each with the token of the one behind it."""
        page_token = self._page_token
        while True:
            page = self._fetch(page_token)
            yield page
            page_token = page.next_page_token
            if not page_token:
                return

    def __iter__(self) -> Iterator[Item]:
        for page in self.pages():
            yield from page.items
