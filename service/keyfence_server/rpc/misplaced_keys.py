"""Keeps keys out of the fields that are not for them.

A caller gives a key where the key's id was asked for, or pastes one into a comment. What is
in such a field is kept in records and in the audit log, is listed, and is repeated in
errors, so a request with a key in one is refused before it is handled. The fields'
descriptors say which of them may hold a secret (`debug_redact`), so no new field can be
forgotten.

A key is recognised by the forms of the keyspaces that the caller reaches, and by the
built-in one: what other keyspaces declare has no effect on the request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import cache
from typing import Any, Final, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from keyfence_server.application.callers import Caller
from keyfence_server.application.pauses import Pauses
from keyfence_server.domain.errors import InvalidInput, Path
from keyfence_server.domain.formats import Recogniser
from keyfence_server.domain.keyspaces import SYSTEM
from keyfence_server.domain.redaction import is_an_id

MAX_TEXT: Final = 16_384
"""The longest text that any open field may hold, in characters."""

# Made by Keyfence, neither kept nor shown, and with random letters in it.
_PAGE_TOKEN: Final = "page_token"
_SLICE: Final = 65_536  # characters that are searched before other calls get their turn
_PER_VALUE: Final = 64  # characters that a field costs besides its own, also an empty one
_WHY: Final = (
    "it contains a key, and the value of this field is stored and shown. Name the "
    "key by its id, which begins with key_"
)

_Find: TypeAlias = Callable[[Any, Path], Iterator[tuple[Path, str]]]


class MisplacedKeys:
    """Refuses requests with a key in the wrong field.

    Args:
        recogniser: knows how the keys of every keyspace look, and of those that it is asked for
            how they look now. May raise `StoreUnavailable`.
    """

    def __init__(
        self, recogniser: Callable[[Callable[[str], bool]], Awaitable[Recogniser]]
    ) -> None:
        self._recogniser = recogniser

    async def refuse(self, request: Message, caller: Caller) -> None:
        """Raises `InvalidInput` for a request with a key in the wrong field. The error names
        the field and not what is in it."""
        # A caller without a credential reaches no keyspace but the one that it names.
        always = {SYSTEM, _keyspace_of(request)}

        def is_within_reach(name: str) -> bool:
            return name in always or caller.reaches(name)

        search = (await self._recogniser(is_within_reach)).search(is_within_reach)
        pauses = Pauses(_SLICE)
        for path, text in _open_texts(request, ()):
            if len(text) > MAX_TEXT:
                raise InvalidInput.field(path, f"at most {MAX_TEXT} characters")
            if text and search.finds_a_key_in(text) and not is_an_id(text):
                raise InvalidInput.field(path, _WHY)
            await pauses.after(len(text) + _PER_VALUE)


def _keyspace_of(request: Message) -> str:
    named = getattr(request, "keyspace", "")
    return named if isinstance(named, str) else ""


def has_open_texts(descriptor: Descriptor, seen: frozenset[str] = frozenset()) -> bool:
    """Whether a message of this type can hold a text that is not meant to be secret.

    Args:
        seen: the types that hold it: a type may hold itself.
    """
    if descriptor.full_name in seen:
        return False
    within = seen | {descriptor.full_name}
    return any(
        _is_open_text(field)
        or (field.message_type is not None and has_open_texts(field.message_type, within))
        for field in descriptor.fields
    )


def _is_open_text(field: FieldDescriptor) -> bool:
    is_text = field.type == FieldDescriptor.TYPE_STRING and field.name != _PAGE_TOKEN
    return is_text and not field.GetOptions().debug_redact


def _open_texts(message: Message, path: Path) -> Iterator[tuple[Path, str]]:
    """Every text of a message that is not meant to be secret, and where it is. For each message
    inside it there is an empty text, so that many empty messages count, too."""
    yield path, ""
    for field, value in message.ListFields():
        name, find, has_items = _search_of(field)
        if find is None:
            continue
        if has_items:
            for index, item in enumerate(value):
                yield from find(item, (*path, name, index))
        else:
            yield from find(value, (*path, name))


@cache
def _search_of(field: FieldDescriptor) -> tuple[str, _Find | None, bool]:
    """A field's name, what finds its open texts, and whether it is asked for each item. A request
    may have thousands of fields."""
    find: _Find | None
    if field.message_type is None:
        find = _text if _is_open_text(field) else None
    elif field.message_type.GetOptions().map_entry:
        return field.name, _pairs, False
    else:
        find = _open_texts
    return field.name, find, field.is_repeated


def _text(text: str, path: Path) -> Iterator[tuple[Path, str]]:
    yield path, text


def _pairs(value: Mapping[str, object], path: Path) -> Iterator[tuple[Path, str]]:
    for item in value.items():
        yield path, "\n".join(map(str, item))
