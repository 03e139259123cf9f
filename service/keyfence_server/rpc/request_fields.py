"""How many fields a request may have: counted in its bytes, before it is decoded.

A message without fields takes two bytes on the wire and fifty times as much in memory, and to
decode a million of them holds the event loop. So the fields of a large request are counted
first, in slices, along the messages that its descriptor knows.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.descriptor import Descriptor

from keyfence_server.application.pauses import Pauses
from keyfence_server.rpc.failures import Failed
from keyfence_server.rpc.status import limit_reached

LARGE_BYTES: Final = 64 * 1024
"""A request up to this size is decoded at once: it cannot have many fields."""
MOST_FIELDS: Final = 250_000
"""A catalog of 10,000 scopes with 200,000 implications has fewer, and so has the largest
report. To decode so many takes less than 20 milliseconds."""

_SLICE: Final = 2_000
_VARINT, _FIXED64, _DELIMITED, _START_GROUP, _END_GROUP, _FIXED32 = range(6)
_MOST_VARINT_BYTES: Final = 10
"""Of 64 bits. The decoder refuses a longer number, too."""
_MOST_DEPTH: Final = 32


async def require_few_fields(raw: bytes, descriptor: Descriptor) -> None:
    """Raises `Failed` for a request with too many fields, or with a group.

    No message of the API has groups. A decoder skips them, and what it skips cannot be counted
    as it reads. Bytes that are no message are left to the decoder, which refuses them.
    """
    pauses = Pauses(_SLICE)
    count = 0
    at = 0
    inside: list[tuple[int, Descriptor]] = [(len(raw), descriptor)]
    try:
        while inside:
            end, message = inside[-1]
            if at >= end:
                inside.pop()
                continue
            count += 1
            if count > MOST_FIELDS:
                raise _refused(f"the request has more than {MOST_FIELDS} fields; send less")
            await pauses.after()
            tag, at = _varint(raw, at)
            kind = tag & 7
            if kind == _DELIMITED:
                length, at = _varint(raw, at)
                field = message.fields_by_number.get(tag >> 3)
                if field is not None and field.message_type and len(inside) < _MOST_DEPTH:
                    inside.append((at + length, field.message_type))
                else:
                    at += length
            elif kind == _VARINT:
                _, at = _varint(raw, at)
            elif kind == _FIXED64:
                at += 8
            elif kind == _FIXED32:
                at += 4
            elif kind in (_START_GROUP, _END_GROUP):
                raise _refused("the request has a group; no field of this API is one")
            else:
                return
    except (IndexError, _NoMessage):
        return


class _NoMessage(Exception):
    """The bytes are no message."""


def _refused(message: str) -> Failed:
    return Failed(limit_reached("request_fields", message))


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends. Raises `IndexError` and `_NoMessage`."""
    byte = raw[at]
    if byte < 128:
        return byte, at + 1
    value = byte & 127
    for place in range(1, _MOST_VARINT_BYTES):
        byte = raw[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise _NoMessage
