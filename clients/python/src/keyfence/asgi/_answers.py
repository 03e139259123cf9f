"""The HTTP answers that a keyspace declares: docs/http.md has the language.

The edge of the server answers by the same rules. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from keyfence.asgi._templates import JsonTemplate, Template, Value
from keyfence.results import RateLimitStatus, Reason
from keyfence.v1 import http_answers_pb2 as messages

_JSON: Final = "application/json"
_PLAIN_TEXT: Final = "text/plain"
_UNAUTHENTICATED: Final = "unauthenticated"
_OTHER_CAUSES: Final = ("scope_missing", "rate_limited")
_DEFAULT_BODY: Final = '{"error": "{code}", "error_description": "{message}"}'

# The words are those of RFC 6750, section 3.1. The challenge of a 401 names no error: it
# would tell a missing credential from a wrong one.
_DEFAULTS: Final = {
    _UNAUTHENTICATED: messages.HttpAnswer(
        status=401,
        code="invalid_token",
        message="The credential is missing or not valid",
        www_authenticate='{scheme} realm="{keyspace}"',
    ),
    "scope_missing": messages.HttpAnswer(
        status=403,
        code="insufficient_scope",
        message="The credential does not allow this",
        www_authenticate='{scheme} realm="{keyspace}", error="insufficient_scope"',
    ),
    "rate_limited": messages.HttpAnswer(
        status=429, code="rate_limited", message="Too many requests"
    ),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response, ready to be sent."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Denied(Exception):
    """Ends a request with an answer. The guard sends it; the handler's own answer is not
    sent.

    Attributes:
        answer: the answer.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"denied with status {answer.status}")
        self.answer = answer


@dataclass(frozen=True, slots=True)
class _Parts:
    """One answer, compiled."""

    status: int
    code: str
    message: Template
    challenge: Template
    body: JsonTemplate | Template


@dataclass(frozen=True, slots=True)
class Places:
    """Where a caller may put its credential.

    Attributes:
        headers: names in lower case.
        cookie: empty for none.
    """

    bearer: bool = True
    headers: tuple[str, ...] = ("x-api-key",)
    cookie: str = ""


class HttpAnswers:
    """A keyspace's HTTP, compiled.

    Args:
        declared: the section `http` of the keyspace's declaration. None: as by default.

    Raises:
        ConfigurationError: an answer cannot be read.
    """

    def __init__(self, declared: messages.HttpAnswers | None, keyspace: str) -> None:
        declared = declared or messages.HttpAnswers()
        self._keyspace = keyspace
        self._content_type = declared.content_type or _JSON
        self.places = Places()
        if declared.HasField("credentials"):
            named = declared.credentials
            headers = tuple(name.lower() for name in named.headers)
            self.places = Places(named.bearer, headers, named.cookie)
        self._limit_names = messages.HttpRateLimitHeaders(
            limit="X-RateLimit-Limit", remaining="X-RateLimit-Remaining", reset="X-RateLimit-Reset"
        )
        if declared.HasField("rate_limit_headers"):
            self._limit_names = declared.rate_limit_headers
        self._body = self._parse_body(declared.body or _DEFAULT_BODY)
        self._parts: dict[Reason, _Parts] = {
            reason: self._compile(declared, reason) for reason in Reason if reason is not Reason.OK
        }

    def denial(
        self,
        reason: Reason,
        *,
        required_scopes: Sequence[str] = (),
        missing_scopes: Sequence[str] = (),
        request_id: str = "",
        limit: RateLimitStatus | None = None,
        time: datetime | None = None,
    ) -> Answer:
        """The answer to a request that is denied.

        Args:
            request_id: empty for none.
            time: None: now.
        """
        parts = self._parts[reason]
        if reason not in {Reason.SCOPE_MISSING, Reason.RATE_LIMITED}:
            # In a 401 the limit would tell that there is such a key.
            limit = None
        values: dict[str, Value] = {
            **self._values(parts.status, parts.code, request_id, time or datetime.now(UTC)),
            "missing_scopes": missing_scopes,
            "required_scopes": required_scopes,
            "limit": limit.limit if limit else None,
            "remaining": limit.remaining if limit else None,
            "reset": int(limit.reset_time.timestamp()) if limit else None,
            "retry_after": limit.retry_after if limit else None,
        }
        values["message"] = parts.message.render(values)
        headers = self.limit_headers(limit)
        challenge = parts.challenge.render(values, " ")
        if challenge:
            headers.append(("www-authenticate", challenge))
        if limit is not None and limit.retry_after is not None:
            headers.append(("retry-after", str(limit.retry_after)))
        return self._answer(parts.status, headers, parts.body.render(values))

    def error(
        self,
        status: int,
        code: str,
        message: str,
        *,
        request_id: str = "",
        retry_after: int | None = None,
    ) -> Answer:
        """An error of the product's own, in the shape of the keyspace's answers.

        Args:
            retry_after: seconds until the same request can pass.
        """
        values: dict[str, Value] = {
            **self._values(status, code, request_id, datetime.now(UTC)),
            "missing_scopes": (),
            "required_scopes": (),
            "message": message,
            "retry_after": retry_after,
        }
        headers = [] if retry_after is None else [("retry-after", str(retry_after))]
        return self._answer(status, headers, self._body.render(values))

    def limit_headers(self, status: RateLimitStatus | None) -> list[tuple[str, str]]:
        """The headers that say where a rate limit stands; none where there is none."""
        if status is None:
            return []
        named = (
            (self._limit_names.limit, status.limit),
            (self._limit_names.remaining, status.remaining),
            (self._limit_names.reset, int(status.reset_time.timestamp())),
        )
        return [(name, str(value)) for name, value in named if name]

    def _answer(self, status: int, headers: Sequence[tuple[str, str]], body: str) -> Answer:
        return Answer(
            status,
            (
                ("content-type", self._content_type),
                # The answer is for this credential and this moment.
                ("cache-control", "no-store"),
                *headers,
            ),
            body.encode(),
        )

    def _values(self, status: int, code: str, request_id: str, time: datetime) -> dict[str, Value]:
        return {
            "keyspace": self._keyspace,
            "scheme": "Bearer" if self.places.bearer else "ApiKey",
            "status": status,
            "code": code,
            "request_id": request_id,
            "time": rfc3339(time),
        }

    def _compile(self, declared: messages.HttpAnswers, reason: Reason) -> _Parts:
        """The answer for a reason: its own words, then those of the cause behind it, then ours."""
        own = reason.name.lower()
        general = own if own in _OTHER_CAUSES else _UNAUTHENTICATED
        resolved = messages.HttpAnswer()
        resolved.CopyFrom(_DEFAULTS[general])
        for cause in dict.fromkeys((general, own)):
            for one in declared.answers:
                if one.cause == cause:
                    # Fields that the answer leaves open are empty, and merging keeps them.
                    resolved.MergeFrom(one)
        return _Parts(
            resolved.status,
            resolved.code,
            Template(resolved.message),
            Template(resolved.www_authenticate),
            self._parse_body(resolved.body) if resolved.body else self._body,
        )

    def _parse_body(self, text: str) -> JsonTemplate | Template:
        return Template(text) if self._content_type == _PLAIN_TEXT else JsonTemplate(text)


def rfc3339(time: datetime, timespec: str = "seconds") -> str:
    """A time as most APIs print it: "2026-01-15T10:30:00Z".

    Args:
        time: aware.
        timespec: "seconds", "milliseconds" or "microseconds".
    """
    return time.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")
