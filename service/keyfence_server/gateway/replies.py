"""Envoy's own errors, in the form of Keyfence's errors.

Envoy answers with plain text, and often with none. Programs that read a `google.rpc.Status`
must be able to read these answers, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.rpc import code_pb2

from keyfence_server.gateway.parts import Config, has_header

_CODES: Final[Mapping[int, int]] = {
    400: code_pb2.INVALID_ARGUMENT,
    401: code_pb2.UNAUTHENTICATED,
    403: code_pb2.PERMISSION_DENIED,
    404: code_pb2.NOT_FOUND,
    408: code_pb2.DEADLINE_EXCEEDED,
    413: code_pb2.RESOURCE_EXHAUSTED,
    426: code_pb2.INVALID_ARGUMENT,
    429: code_pb2.RESOURCE_EXHAUSTED,
    431: code_pb2.RESOURCE_EXHAUSTED,
    500: code_pb2.INTERNAL,
    501: code_pb2.UNIMPLEMENTED,
    503: code_pb2.UNAVAILABLE,
    504: code_pb2.DEADLINE_EXCEEDED,
}
"""The code of gRPC that stands for a status of HTTP."""

_NAME: Final = "gateway.local_reply"


def local_replies() -> Config:
    """The `local_reply_config`. Callers of gRPC get Envoy's text as `grpc-message`."""
    return {"mappers": [_mapper(status, code) for status, code in _CODES.items()]}


def _mapper(status: int, code: int) -> Config:
    is_status = {
        "status_code_filter": {
            "comparison": {"op": "EQ", "value": {"default_value": status, "runtime_key": _NAME}}
        }
    }
    return {
        "filter": {"and_filter": {"filters": [is_status, _IS_REST]}},
        "body_format_override": {
            "json_format": {"code": code, "message": "%LOCAL_REPLY_BODY%", "details": []},
            "content_type": "application/json",
        },
    }


_IS_REST: Final[Config] = {
    "or_filter": {
        "filters": [
            {
                "header_filter": {
                    "header": {
                        "name": "content-type",
                        "string_match": {"prefix": "application/grpc"},
                        "invert_match": True,
                        "treat_missing_header_as_empty": True,
                    }
                }
            },
            # Requests of REST that the transcoder has begun to convert to gRPC.
            {"header_filter": {"header": has_header("x-envoy-original-path")}},
        ]
    }
}
