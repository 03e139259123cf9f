"""The HTTP answers of a keyspace to requests that it denies.

The declaration chooses what an end user learns from an answer. By default every credential
that does not pass gets the same answer, whether it is missing, made up, expired or revoked,
so that an attacker cannot find out which keys exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Final

from keyfence_server.domain.declarations import (
    DEFAULT_CONTENT_TYPE,
    AnswerDeclaration,
    CredentialsDeclaration,
    HttpDeclaration,
    RateLimitHeadersDeclaration,
)
from keyfence_server.domain.errors import Name, Path, Problem
from keyfence_server.domain.limits import RateLimitStatus
from keyfence_server.domain.reasons import Reason
from keyfence_server.domain.text_templates import (
    InvalidTemplate,
    JsonTemplate,
    TextTemplate,
    Value,
    parse_json,
    parse_text,
)

PLAIN_TEXT: Final = "text/plain"
CONTENT_TYPES: Final = (DEFAULT_CONTENT_TYPE, "application/problem+json", PLAIN_TEXT)

UNAUTHENTICATED: Final = "unauthenticated"
"""The cause for every credential that does not pass."""

_OTHER_CAUSES: Final = (Reason.SCOPE_MISSING, Reason.RATE_LIMITED)
_DENIALS: Final = tuple(reason for reason in Reason if reason is not Reason.OK)

# The codes are those of RFC 6750, section 3.1. The challenge of a 401 names no error, because that
# would distinguish a missing credential from a wrong one.
_DEFAULTS: Final[Mapping[str, AnswerDeclaration]] = {
    UNAUTHENTICATED: AnswerDeclaration(
        cause=UNAUTHENTICATED,
        status=401,
        code="invalid_token",
        message="The credential is missing or not valid",
        www_authenticate='{scheme} realm="{keyspace}"',
    ),
    "scope_missing": AnswerDeclaration(
        cause="scope_missing",
        status=403,
        code="insufficient_scope",
        message="The credential does not allow this",
        www_authenticate='{scheme} realm="{keyspace}", error="insufficient_scope"',
    ),
    "rate_limited": AnswerDeclaration(
        cause="rate_limited", status=429, code="rate_limited", message="Too many requests"
    ),
}

# The statuses from 400 to 499 that Envoy can answer with.
_STATUSES: Final = frozenset({*range(400, 418), 421, 422, 423, 424, 426, 428, 429, 431})
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_CODE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MAX_CHALLENGE: Final = 500
_HEADER_TEXT: Final = re.compile(rf"[\x20-\x7e]{{0,{_MAX_CHALLENGE}}}")

_IN_MESSAGES: Final = frozenset(
    {"keyspace", "missing_scopes", "required_scopes", "limit", "remaining", "reset", "retry_after"}
)
_IN_BODIES: Final = _IN_MESSAGES | {"message", "code", "status", "request_id", "time"}
_IN_CHALLENGES: Final = frozenset(
    {"keyspace", "code", "missing_scopes", "required_scopes", "scheme"}
)

# Headers that have a meaning for proxies, for HTTP itself, or for Keyfence.
_TAKEN_HEADERS: Final = frozenset(
    {"authorization", "connection", "content-length", "content-type", "cookie", "host", "te"}
    | {"keep-alive", "proxy-authorization", "set-cookie", "trailer", "transfer-encoding", "upgrade"}
    | {"expect", "forwarded", "x-forwarded-for", "x-request-id", "www-authenticate", "retry-after"}
)
_Parser = Callable[[str], JsonTemplate | TextTemplate]

_MAX_HEADERS: Final = 4
_LIMIT_HEADERS: Final = tuple(one.name for one in fields(RateLimitHeadersDeclaration))
_MAX_MESSAGE: Final = 500
_MAX_BODY: Final = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """The values that an answer can contain.

    Attributes:
        request_id: empty if there is none.
        time: now, as RFC 3339 writes it.
        rate_limit: the state of the key's rate limit, if it has one.
    """

    reason: Reason
    required_scopes: Sequence[str] = ()
    missing_scopes: Sequence[str] = ()
    request_id: str = ""
    time: str = ""
    rate_limit: RateLimitStatus | None = None


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer, ready to be sent."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: str


@dataclass(frozen=True, slots=True)
class _Answer:
    """One answer's parts, compiled."""

    status: int
    code: str
    message: TextTemplate
    body: JsonTemplate | TextTemplate
    challenge: TextTemplate


@dataclass(frozen=True, slots=True)
class HttpRules:
    """A keyspace's HTTP, compiled.

    Attributes:
        header_names: those that credentials are accepted in, in lower case.
    """

    declaration: HttpDeclaration
    header_names: tuple[str, ...]
    _keyspace: str
    _answers: Mapping[Reason, _Answer] = field(repr=False)

    def answer(self, denial: Denial) -> HttpAnswer:
        """The answer that the end user gets."""
        parts = self._answers[denial.reason]
        limit = denial.rate_limit
        values: dict[str, Value] = {
            "keyspace": self._keyspace,
            "scheme": "Bearer" if self.declaration.credentials.bearer else "ApiKey",
            "code": parts.code,
            "status": parts.status,
            "missing_scopes": denial.missing_scopes,
            "required_scopes": denial.required_scopes,
            "request_id": denial.request_id,
            "time": denial.time,
            "limit": limit.limit.rate.requests if limit else None,
            "remaining": limit.remaining if limit else None,
            "reset": limit.reset_at if limit else None,
            "retry_after": limit.retry_after if limit else None,
        }
        values["message"] = parts.message.render(values)
        headers = [
            ("content-type", self.declaration.content_type),
            # The answer is for this credential and this moment.
            ("cache-control", "no-store"),
            *self.limit_headers(limit),
        ]
        challenge = parts.challenge.render(values, separator=" ")
        if challenge:
            headers.append(("www-authenticate", challenge))
        if limit is not None and limit.retry_after is not None:
            headers.append(("retry-after", str(limit.retry_after)))
        return HttpAnswer(parts.status, tuple(headers), parts.body.render(values))

    def limit_headers(self, status: RateLimitStatus | None) -> list[tuple[str, str]]:
        """The headers that say where a rate limit stands; none where there is none."""
        if status is None:
            return []
        names = self.declaration.rate_limit_headers
        named = (
            (names.limit, status.limit.rate.requests),
            (names.remaining, status.remaining),
            (names.reset, status.reset_at),
        )
        return [(name, str(value)) for name, value in named if name]


def compile_http(declaration: HttpDeclaration, keyspace: str) -> HttpRules:
    """Makes a declaration without problems ready."""
    answers: dict[Reason, _Answer] = {}
    for reason in _DENIALS:
        one = _resolved(declaration, reason)
        answers[reason] = _Answer(
            status=one.status,
            code=one.code,
            message=parse_text(one.message),
            body=_parser_of(declaration.content_type)(one.body or declaration.body),
            challenge=parse_text(one.www_authenticate),
        )
    headers = tuple(name.lower() for name in declaration.credentials.headers)
    return HttpRules(declaration, headers, keyspace, answers)


def http_problems(declaration: HttpDeclaration) -> Iterator[Problem]:
    """Everything that is wrong with a declaration, by path."""
    yield from _credentials_problems(("http", "credentials"), declaration.credentials)
    if declaration.content_type not in CONTENT_TYPES:
        yield Problem(("http", "content_type"), f"must be one of {', '.join(CONTENT_TYPES)}")
    parse_body = _parser_of(declaration.content_type)
    body_path = ("http", "body")
    yield from _template_problems(body_path, declaration.body, parse_body, _IN_BODIES, _MAX_BODY)
    path: Path = ("http", "rate_limit_headers")
    named = {name: getattr(declaration.rate_limit_headers, name) for name in _LIMIT_HEADERS}
    for name, header in named.items():
        yield from _header_problems((*path, name), header)
    yield from _repeated_headers(path, list(filter(None, named.values())))
    seen: set[str] = set()
    for one in declaration.answers:
        path = ("http", "answers", Name(one.cause[:64]))
        if one.cause in seen:
            yield Problem(path, "is declared twice")
        seen.add(one.cause)
        yield from _answer_problems(path, one, parse_body)


def _resolved(declaration: HttpDeclaration, reason: Reason) -> AnswerDeclaration:
    """The answer for a reason: its own words, then those of the cause behind it, then ours."""
    declared = {one.cause: one for one in declaration.answers}
    general = reason.name.lower() if reason in _OTHER_CAUSES else UNAUTHENTICATED
    resolved = _DEFAULTS[general]
    for cause in dict.fromkeys((general, reason.name.lower())):
        if (one := declared.get(cause)) is not None:
            said = {field.name: getattr(one, field.name) for field in fields(one)}
            resolved = replace(resolved, **{name: value for name, value in said.items() if value})
    return resolved


def _parser_of(content_type: str) -> _Parser:
    return parse_text if content_type == PLAIN_TEXT else parse_json


def _credentials_problems(path: Path, credentials: CredentialsDeclaration) -> Iterator[Problem]:
    if not (credentials.bearer or credentials.headers or credentials.cookie):
        yield Problem(path, "a credential must be accepted somewhere")
    if len(credentials.headers) > _MAX_HEADERS:
        yield Problem((*path, "headers"), f"at most {_MAX_HEADERS} headers")
    for index, name in enumerate(credentials.headers):
        yield from _header_problems((*path, "headers", index), name)
    yield from _repeated_headers((*path, "headers"), credentials.headers)
    if credentials.cookie and not _TOKEN.fullmatch(credentials.cookie):
        yield Problem((*path, "cookie"), "is not the name of a cookie")


def _repeated_headers(path: Path, names: Sequence[str]) -> Iterator[Problem]:
    if len({name.lower() for name in names}) != len(names):
        yield Problem(path, "it names a header twice")


def _header_problems(path: Path, name: str) -> Iterator[Problem]:
    if not name:
        return
    # Programs behind the edge may take an underscore for a hyphen, and one name for two.
    if not _TOKEN.fullmatch(name) or "_" in name:
        yield Problem(path, f'"{name[:64]}" is not the name of a header')
    elif name.lower() in _TAKEN_HEADERS or name.lower().startswith(("x-keyfence-", "x-envoy-")):
        yield Problem(
            path, f'"{name}" is used by HTTP, by proxies or by Keyfence; choose another header'
        )


def _answer_problems(path: Path, one: AnswerDeclaration, parse_body: _Parser) -> Iterator[Problem]:
    causes = (UNAUTHENTICATED, *(reason.name.lower() for reason in _DENIALS))
    if one.cause not in causes:
        yield Problem(path, f"there is no such cause; known: {', '.join(causes)}")
    if one.status and one.status not in _STATUSES:
        yield Problem((*path, "status"), "is not a status code from 400 to 499 that Envoy can send")
    if one.code and not _CODE.fullmatch(one.code):
        yield Problem((*path, "code"), "1 to 64 letters, digits and '._-'")
    parts = [
        ("message", one.message, parse_text, _IN_MESSAGES, _MAX_MESSAGE),
        ("www_authenticate", one.www_authenticate, parse_text, _IN_CHALLENGES, _MAX_CHALLENGE),
        ("body", one.body, parse_body, _IN_BODIES, _MAX_BODY),
    ]
    for name, text, parse, known, most in parts:
        if name == "www_authenticate" and not _HEADER_TEXT.fullmatch(text):
            yield Problem((*path, name), f"at most {most} characters, all of printable ASCII")
        elif text:
            yield from _template_problems((*path, name), text, parse, known, most)


def _template_problems(
    path: Path, text: str, parse: _Parser, known: frozenset[str], most: int
) -> Iterator[Problem]:
    if len(text) > most:
        yield Problem(path, f"at most {most} characters")
        return
    try:
        names = parse(text).names
    except InvalidTemplate as error:
        yield Problem(path, str(error))
        return
    for name in sorted(names - known):
        yield Problem(
            path,
            f'there is no placeholder "{{{name[:64]}}}" here; known: {", ".join(sorted(known))}',
        )
