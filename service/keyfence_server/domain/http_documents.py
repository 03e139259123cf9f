"""The section `http:` of a keyspace's document.

A JSON body is a mapping here, as it will be sent, and a text in the declaration.
"""

from __future__ import annotations

from collections.abc import Mapping

from keyfence_server.domain.declarations import (
    DEFAULT_BODY,
    DEFAULT_CONTENT_TYPE,
    DEFAULT_CREDENTIALS,
    DEFAULT_RATE_LIMIT_HEADERS,
    AnswerDeclaration,
    CredentialsDeclaration,
    HttpDeclaration,
    RateLimitHeadersDeclaration,
)
from keyfence_server.domain.document_fields import Document, Fields, without_empty
from keyfence_server.domain.text_templates import InvalidTemplate, json_data, json_text


def read_http(at: Fields) -> HttpDeclaration:
    """Reads the section; what it leaves open is as by default."""
    read = HttpDeclaration(
        credentials=(
            _read_credentials(at.mapping("credentials"))
            if at.has("credentials")
            else DEFAULT_CREDENTIALS
        ),
        answers=at.named("answers", _read_answer),
        content_type=at.text("content_type") or DEFAULT_CONTENT_TYPE,
        body=_read_body(at) or DEFAULT_BODY,
        rate_limit_headers=(
            _read_rate_limit_headers(at.mapping("rate_limit_headers"))
            if at.has("rate_limit_headers")
            else DEFAULT_RATE_LIMIT_HEADERS
        ),
    )
    at.finish()
    return read


def http_to_document(declared: HttpDeclaration) -> Document:
    """Writes the section; nothing of what is as by default."""
    if declared == HttpDeclaration():
        return {}
    credentials, limits = declared.credentials, declared.rate_limit_headers
    document = without_empty(
        {
            "answers": {one.cause: _answer_document(one) for one in declared.answers},
            "content_type": declared.content_type,
            "body": _body_document(declared.body),
        }
    )
    # Written even where it is empty: to say nothing is to have the default.
    if credentials != DEFAULT_CREDENTIALS:
        document["credentials"] = without_empty(
            {
                "bearer": credentials.bearer,
                "headers": list(credentials.headers),
                "cookie": credentials.cookie,
            }
        )
    if limits != DEFAULT_RATE_LIMIT_HEADERS:
        document["rate_limit_headers"] = without_empty(
            {"limit": limits.limit, "remaining": limits.remaining, "reset": limits.reset}
        )
    return document


def canonical_body(text: str) -> str:
    """The body as it would come back from a document: JSON in its one form, or the text."""
    try:
        data = json_data(text)
        return json_text(data) if isinstance(data, dict) else text
    except InvalidTemplate:
        return text


def _read_credentials(at: Fields) -> CredentialsDeclaration:
    read = CredentialsDeclaration(
        bearer=at.flag("bearer"), headers=at.texts("headers"), cookie=at.text("cookie")
    )
    at.finish()
    return read


def _read_rate_limit_headers(at: Fields) -> RateLimitHeadersDeclaration:
    read = RateLimitHeadersDeclaration(
        limit=at.text("limit"), remaining=at.text("remaining"), reset=at.text("reset")
    )
    at.finish()
    return read


def _read_answer(cause: str, at: Fields) -> AnswerDeclaration:
    return AnswerDeclaration(
        cause=cause,
        status=at.integer("status", 0),
        code=at.text("code"),
        message=at.text("message"),
        body=_read_body(at),
        www_authenticate=at.text("www_authenticate"),
    )


def _read_body(at: Fields) -> str:
    value = at.anything("body")
    if value is None:
        return ""
    if isinstance(value, str):
        return canonical_body(value)
    if not isinstance(value, Mapping):
        at.complain("body", "a mapping is needed here for JSON, or a text for text/plain")
        return ""
    try:
        return json_text(value)
    except InvalidTemplate as error:
        at.complain("body", str(error))
        return ""


def _answer_document(one: AnswerDeclaration) -> Document:
    document = without_empty(
        {
            "code": one.code,
            "message": one.message,
            "body": _body_document(one.body),
            "www_authenticate": one.www_authenticate,
        }
    )
    return {"status": one.status, **document} if one.status else document


def _body_document(text: str) -> object:
    try:
        data = json_data(text)
    except InvalidTemplate:
        return text
    return data if isinstance(data, dict) and data else text
