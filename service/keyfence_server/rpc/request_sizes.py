"""How large a request of each RPC may be, in encoded bytes and in fields: looked at before it is
decoded.

The sizes are a table and not an option in the protos: they belong to this server and may change
with a release, while options are part of the API, and Envoy's descriptor is not ours to
annotate. gRPC's own limit, `KEYFENCE_MAX_MESSAGE_BYTES`, is above all of them.

A message without fields takes two bytes on the wire and fifty times as much in memory, and to
decode a million of them holds the event loop. So the fields of a large request are counted
first, in slices, along the messages that its descriptor knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.descriptor import Descriptor

from keyfence_server.application.pauses import Pauses
from keyfence_server.rpc.failures import Failed
from keyfence_server.rpc.status import limit_reached

DEFAULT_BYTES: Final = 16 * 1024
"""Holds a check of 64 scopes, a page token and a password many times."""

WITHOUT_CREDENTIAL_BYTES: Final = 4 * 1024
"""Of a caller that has shown no credential, whatever the RPC: a log-in and a registration."""

_KIB: Final = 1024
_V1: Final = "/keyfence.v1"

LARGER: Final[Mapping[str, int]] = {
    # 256 grants, 64 addresses and 32 labels.
    f"{_V1}.KeyService/CreateKey": 128 * _KIB,
    f"{_V1}.KeyService/UpdateKey": 128 * _KIB,
    f"{_V1}.KeyService/RotateKey": 128 * _KIB,
    # 500 keys with some scopes and labels each.
    f"{_V1}.KeyService/ImportKeys": 1024 * _KIB,
    # 256 checks.
    f"{_V1}.AuthorizationService/BatchCheckScope": 512 * _KIB,
    # A catalog of 10,000 scopes with descriptions. The answer repeats it, with what has changed,
    # and clients take four megabytes.
    f"{_V1}.KeyspaceService/ApplyKeyspace": 2560 * _KIB,
    # 10,000 uses and 10,000 failed attempts.
    f"{_V1}.ReplicationService/ReportUses": 4 * 1024 * _KIB,
    # The head of an HTTP request, twice: as a map and as a list.
    "/envoy.service.auth.v3.Authorization/Check": 256 * _KIB,
}
"""The RPCs whose requests may be larger, by their full names."""

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


def most_bytes_of(method: str) -> int:
    """How large a request of this RPC may be."""
    return LARGER.get(method, DEFAULT_BYTES)


def require_size(raw: bytes, most: int) -> None:
    """Raises `Failed` for a request that is too large."""
    if len(raw) > most:
        raise Failed(
            limit_reached(
                "request_bytes",
                f"the request has {len(raw)} bytes, and here at most {most} are allowed; send less",
            )
        )


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
