"""How large a request of each RPC may be, in encoded bytes: looked at before it is decoded.

The sizes are a table and not an option in the protos: they belong to this server and may change
with a release, while options are part of the API, and Envoy's descriptor is not ours to
annotate. gRPC's own limit, `KEYFENCE_MAX_MESSAGE_BYTES`, is above all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

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
