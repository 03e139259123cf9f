"""Keeps keys out of the fields that are not for them.

Somebody gives a key where its id was asked for, or pastes one into a comment. What is in
such a field is kept in records and in the audit log, is listed, and is said back in
errors, so a request that has a key in one is refused before anyone looks at it. Which
fields may hold a secret their descriptors say (`debug_redact`), so that no new field can
be forgotten.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from keyfence_server.domain.errors import InvalidInput, Problem
from keyfence_server.domain.formats import Recogniser
from keyfence_server.domain.redaction import is_an_id

# It is ours, is neither kept nor shown, and has random letters in it.
_PAGE_TOKEN: Final = "page_token"
_WHY: Final = (
    "there is a key in it, and this field is not for one: what it holds is kept and shown. A key "
    "is known by its id, which begins with key_"
)


class MisplacedKeys:
    """Refuses requests.

    Args:
        recogniser: knows how the keys of every keyspace look. May raise `StoreUnavailable`.
    """

    def __init__(self, recogniser: Callable[[], Awaitable[Recogniser]]) -> None:
        self._recogniser = recogniser

    async def refuse(self, request: Message) -> None:
        """Raises `InvalidInput` for a request with a key in the wrong place. The error names
        the field and not what is in it."""
        recogniser = await self._recogniser()
        for path, text in _open_texts(request, ""):
            if not is_an_id(text) and recogniser.finds_a_key_in(text):
                raise InvalidInput([Problem((path,), _WHY)])


def has_open_texts(descriptor: Descriptor) -> bool:
    """Whether a message of this type can hold a text that is not meant to be secret."""
    return _has_open_texts(descriptor, frozenset())


def _has_open_texts(descriptor: Descriptor, seen: frozenset[str]) -> bool:
    if descriptor.full_name in seen:
        return False
    within = seen | {descriptor.full_name}
    return any(
        _is_open_text(field)
        or (field.message_type is not None and _has_open_texts(field.message_type, within))
        for field in descriptor.fields
    )


def _is_open_text(field: FieldDescriptor) -> bool:
    is_text = field.type == FieldDescriptor.TYPE_STRING and field.name != _PAGE_TOKEN
    return is_text and not field.GetOptions().debug_redact


def _open_texts(message: Message, path: str) -> Iterator[tuple[str, str]]:
    """Every text of a message that is not meant to be secret, and where it is."""
    for field, value in message.ListFields():
        at = f"{path}{field.name}"
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for name, item in value.items():
                yield at, f"{name}\n{item}"
        elif field.message_type is not None and field.is_repeated:
            for index, one in enumerate(value):
                yield from _open_texts(one, f"{at}[{index}].")
        elif field.message_type is not None:
            yield from _open_texts(value, f"{at}.")
        elif _is_open_text(field) and field.is_repeated:
            yield from ((f"{at}[{index}]", text) for index, text in enumerate(value))
        elif _is_open_text(field):
            yield at, value
