"""Keyfence's answers to Envoy: let the request through, deny it, or nothing could be decided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import external_auth_pb2
from google.protobuf import struct_pb2
from google.rpc import code_pb2

from keyfence_server.domain.facts import KeyFacts
from keyfence_server.domain.http_answers import HttpAnswer
from keyfence_server.domain.reasons import Reason
from keyfence_server.rpc.envoy.requests import COOKIE_AS_LATIN_1, IDENTITY_PREFIX

# The generated modules come without types.
CheckResponse: Any = external_auth_pb2.CheckResponse
_Struct: Any = struct_pb2.Struct

_STALE: Final = f"{IDENTITY_PREFIX}stale"
_OVERWRITE: Final = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD

# Servers refuse headers that are too long, and a list that was cut off would be a lie.
_MAX_SCOPES_BYTES: Final = 4_096

_CODES: Final = {
    Reason.SCOPE_MISSING: code_pb2.PERMISSION_DENIED,
    Reason.RATE_LIMITED: code_pb2.RESOURCE_EXHAUSTED,
}

_BROKEN_BODY: Final = (
    '{"error": "temporarily_unavailable", "error_description": "The request could not be checked"}'
)


def admission_of(facts: KeyFacts) -> Any:
    """The answer that lets a request through."""
    message = CheckResponse()
    message.status.code = code_pb2.OK
    ok = message.ok_response
    scopes, is_cut = facts.listed_scopes()
    text = " ".join(scopes)
    told = _identity(facts) | {"scopes": "" if is_cut or len(text) > _MAX_SCOPES_BYTES else text}
    for name, value in told.items():
        header = IDENTITY_PREFIX + name.replace("_", "-")
        if value:
            _set(ok.headers, header, value)
        else:
            ok.headers_to_remove.append(header)
    rules = facts.keyspace.http
    if rules.declaration.credentials.bearer:
        ok.headers_to_remove.append("authorization")
    ok.headers_to_remove.extend(rules.header_names)
    message.dynamic_metadata.CopyFrom(_metadata(Reason.OK, facts))
    return message


def adapted(
    admission: Any,
    *,
    claimed: Sequence[str],
    cookies_left: str | None,
    response_headers: Iterable[tuple[str, str]],
    stale: bool,
) -> Any:
    """The answer that lets a request through, changed for one request.

    Args:
        claimed: the identity headers that the client sent, to be stripped.
        cookies_left: the new header `Cookie`, as Latin-1; empty to remove it, None to
            leave it.
        response_headers: headers to add to the upstream's response.
        stale: whether the verdict may be out of date.
    """
    message = CheckResponse()
    message.CopyFrom(admission)
    ok = message.ok_response
    if stale:
        _set(ok.headers, _STALE, "true")
        message.dynamic_metadata.update({"stale": True})
    ours = {option.header.key for option in ok.headers}
    # Envoy removes after it has set, so what is set is stripped by being overwritten.
    ok.headers_to_remove.extend(name for name in claimed if name not in ours)
    if cookies_left is not None:
        _replace_cookies(ok, cookies_left)
    for name, value in response_headers:
        _set(ok.response_headers_to_add, name, value)
    return message


def denial(
    answer: HttpAnswer, reason: Reason, facts: KeyFacts | None, *, is_grpc: bool, stale: bool
) -> Any:
    """The answer that denies a request.

    Args:
        answer: what the client gets.
        is_grpc: whether the request is a call of gRPC.
        stale: whether the verdict may be out of date. It is told to the access log only.
    """
    message = CheckResponse()
    message.status.code = _CODES.get(reason, code_pb2.UNAUTHENTICATED)
    if is_grpc:
        # Envoy would derive it from the HTTP status, and make UNAVAILABLE of 429, which
        # clients take for a reason to try again at once.
        _set(message.denied_response.headers, "grpc-status", str(message.status.code))
    denied = message.denied_response
    denied.status.code = answer.status
    denied.body = answer.body
    for name, value in answer.headers:
        _set(denied.headers, name, value)
    message.dynamic_metadata.CopyFrom(_metadata(reason, facts))
    if stale:
        message.dynamic_metadata.update({"stale": True})
    return message


def broken(code: int, status: int, reason: str) -> Any:
    """The answer that says that nothing was decided. The request must not get through, and its
    sender must not think that the credential is at fault.

    Args:
        code: of gRPC.
        status: of HTTP.
        reason: for Envoy's access log: the name of an `ErrorReason`, or ROUTE_UNUSABLE, which
            only Envoy can get.
    """
    message = CheckResponse()
    message.status.code = code
    error = message.error_response
    error.status.code = status
    error.body = _BROKEN_BODY
    _set(error.headers, "content-type", "application/json")
    _set(error.headers, "cache-control", "no-store")
    message.dynamic_metadata.update({"allowed": False, "error": reason})
    return message


def _identity(facts: KeyFacts) -> dict[str, str]:
    """What the upstream and the access log learn about the caller. No value here was chosen by a
    key's holder."""
    names = ("key_id", "account_id", "keyspace", "key_type", "environment")
    return {name: getattr(facts.key, name) for name in names}


def _metadata(reason: Reason, facts: KeyFacts | None) -> Any:
    about: dict[str, object] = {"allowed": reason is Reason.OK, "reason": reason.name}
    if facts is not None:
        scopes, is_cut = facts.listed_scopes()
        about |= _identity(facts) | {"scopes": list(scopes)}
        if is_cut:
            about["scopes_truncated"] = True
    metadata = _Struct()
    metadata.update(about)
    return metadata


def _replace_cookies(ok: Any, cookies: str) -> None:
    try:
        text = cookies.encode("latin-1").decode()
    except UnicodeDecodeError:
        # A header's value in this protocol is UTF-8. So Envoy gets the bytes as characters, and
        # its configuration puts them back. Without that, the cookies are lost and not changed.
        _set(ok.headers, COOKIE_AS_LATIN_1, cookies)
        text = ""
    if text:
        _set(ok.headers, "cookie", text)
    else:
        ok.headers_to_remove.append("cookie")


def _set(options: Any, name: str, value: str) -> None:
    option = options.add()
    option.header.key = name
    option.header.value = value
    option.append_action = _OVERWRITE
