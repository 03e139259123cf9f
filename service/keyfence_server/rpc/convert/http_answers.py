"""How a keyspace speaks HTTP."""

from __future__ import annotations

from keyfence.v1 import http_answers_pb2
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
from keyfence_server.domain.http_documents import canonical_body


def http_from(message: http_answers_pb2.HttpAnswers) -> HttpDeclaration:
    """What is declared; what is left open is as by default."""
    credentials, limits = message.credentials, message.rate_limit_headers
    return HttpDeclaration(
        credentials=(
            CredentialsDeclaration(
                bearer=credentials.bearer,
                headers=tuple(credentials.headers),
                cookie=credentials.cookie,
            )
            if message.HasField("credentials")
            else DEFAULT_CREDENTIALS
        ),
        answers=tuple(
            AnswerDeclaration(
                cause=one.cause,
                status=one.status,
                code=one.code,
                message=one.message,
                body=canonical_body(one.body),
                www_authenticate=one.www_authenticate,
            )
            for one in message.answers
        ),
        content_type=message.content_type or DEFAULT_CONTENT_TYPE,
        body=canonical_body(message.body) or DEFAULT_BODY,
        rate_limit_headers=(
            RateLimitHeadersDeclaration(
                limit=limits.limit, remaining=limits.remaining, reset=limits.reset
            )
            if message.HasField("rate_limit_headers")
            else DEFAULT_RATE_LIMIT_HEADERS
        ),
    )


def http_of(declared: HttpDeclaration) -> http_answers_pb2.HttpAnswers:
    """The message."""
    credentials, limits = declared.credentials, declared.rate_limit_headers
    return http_answers_pb2.HttpAnswers(
        credentials=http_answers_pb2.HttpCredentials(
            bearer=credentials.bearer, headers=credentials.headers, cookie=credentials.cookie
        ),
        answers=(
            http_answers_pb2.HttpAnswer(
                cause=one.cause,
                status=one.status,
                code=one.code,
                message=one.message,
                body=one.body,
                www_authenticate=one.www_authenticate,
            )
            for one in declared.answers
        ),
        content_type=declared.content_type,
        body=declared.body,
        rate_limit_headers=http_answers_pb2.HttpRateLimitHeaders(
            limit=limits.limit, remaining=limits.remaining, reset=limits.reset
        ),
    )
