"""Going through a list that the server hands out in pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar

from keyfence.results import Page

Item = TypeVar("Item")


class AsyncListing(Generic[Item]):
    """Everything that a list call finds, fetched page by page as it is consumed.

    Iterate over it for the things themselves, or over `pages()`. Nothing is sent
    before. Each iteration starts anew.
    """

    def __init__(self, fetch: Callable[[str], Awaitable[Page[Item]]], page_token: str) -> None:
        self._fetch = fetch
        self._page_token = page_token

    async def pages(self) -> AsyncIterator[Page[Item]]:
        """The pages, each with the token of the one behind it."""
        page_token = self._page_token
        while True:
            page = await self._fetch(page_token)
            yield page
            page_token = page.next_page_token
            if not page_token:
                return

    async def __aiter__(self) -> AsyncIterator[Item]:
        async for page in self.pages():
            for item in page.items:
                yield item
