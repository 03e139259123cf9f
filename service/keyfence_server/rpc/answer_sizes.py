"""How large an answer may be: lists end by bytes, and not by their number of items alone.

Clients refuse messages above gRPC's four megabytes. An answer that ends before has the same
form as a shorter one, so that nothing that was done is reported as failed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from google.protobuf.message import Message

from keyfence_server.application.pages import Page
from keyfence_server.application.pauses import Pauses, pause
from keyfence_server.convert.keyspaces import fill_in_slices
from keyfence_server.domain.keyspaces import Keyspace

ANSWER_BYTES: Final = 2 * 1024 * 1024
"""What the items of an answer come to at most, except that one item is always sent."""

# Making so much of an answer takes some milliseconds.
_BYTES_AT_A_TIME: Final = 128 * 1024
_BYTES_PER_MESSAGE: Final = 1024

T = TypeVar("T")


class AnswerBudget:
    """What is left of an answer's bytes.

    Attributes:
        is_full: whether the messages so far have taken all of it.
        is_pause_due: whether other calls are to have their turn.
    """

    def __init__(self) -> None:
        self._left = ANSWER_BYTES
        self._is_empty = True
        self._pauses = Pauses(_BYTES_AT_A_TIME)
        self.is_pause_due = False

    @property
    def is_full(self) -> bool:
        """Whether nothing more fits."""
        return self._left <= 0

    def fill(self) -> None:
        """Takes all that is left."""
        self._left = 0

    async def fits(self, message: Message) -> bool:
        """Whether the message is within the answer, in which it then takes its place. The
        first one always is. Other calls get their turn now and then."""
        if not self.take(message):
            return False
        if self.is_pause_due:
            await pause()
        return True

    def take(self, message: Message) -> bool:
        """The same without a turn for other calls. The caller pauses when it is due."""
        size = message.ByteSize()
        if size > self._left and not self._is_empty:
            return False
        self._left -= size
        self._is_empty = False
        # Small messages have their cost, too.
        self.is_pause_due = self._pauses.is_due(size + _BYTES_PER_MESSAGE)
        return True


async def add_fitting(
    page: Page[T], write: Callable[[T, Callable[..., Any]], Message], items: Any
) -> str:
    """Adds as many items of a page as fit to a repeated field of an answer, and returns the token
    for those that follow.

    Args:
        write: writes an item into the message that it makes by its second argument.
    """
    budget = AnswerBudget()
    for index, item in enumerate(page.items):
        # In its place in the answer: nothing has to be copied there.
        if not budget.take(write(item, items.add)):
            del items[-1]
            return page.token_after(page.items[index - 1])
        # A coroutine for each of a thousand messages would take as long as to measure them.
        if budget.is_pause_due:
            await pause()
    return page.next_page_token


async def add_fitting_keyspaces(page: Page[Keyspace], keyspaces: Any) -> str:
    """The same of keyspaces. Other calls have their turn while a large one is written."""
    budget = AnswerBudget()
    for index, keyspace in enumerate(page.items):
        message = keyspaces.add()
        await fill_in_slices(message, keyspace)
        if not await budget.fits(message):
            del keyspaces[-1]
            return page.token_after(page.items[index - 1])
    return page.next_page_token
