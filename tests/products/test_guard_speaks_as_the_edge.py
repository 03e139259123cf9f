"""The SDK's guard reads requests and answers them as the edge does, for every keyspace."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

import keyfence
from domain.test_http_answers import SECTIONS
from keyfence.asgi._answers import HttpAnswers
from keyfence.asgi._credentials import take_credential
from keyfence_server.convert.keyspaces import declaration_from, keyspace_of
from keyfence_server.domain import http_answers as edge
from keyfence_server.domain.documents import declaration_from_document
from keyfence_server.domain.keyspaces import Keyspace, compile_keyspace
from keyfence_server.domain.limits import Limit, Rate, RateLimitStatus, Subject
from keyfence_server.domain.reasons import Reason
from keyfence_server.rpc.envoy.requests import presented_in
from support.systems import SYSTEMS, declared_message

MINUTE: Final = timedelta(minutes=1)
NOW: Final = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)
DENIALS: Final = [reason for reason in Reason if reason is not Reason.OK]

PLACES: Final = [
    {"bearer": True},
    {"headers": ["X-Key", "Api-Key"]},
    {"bearer": True, "headers": ["X-Key"], "cookie": "sid"},
    {"headers": ["Authorization-Key"], "cookie": "sid"},
]
LINES: Final = st.lists(
    st.one_of(
        st.tuples(
            st.just("authorization"),
            st.sampled_from(
                ["Bearer a", "bearer  a ", "Bearer b", "Basic a", "Bearer a,b", "", "Bearer"]
            ),
        ),
        st.tuples(
            st.sampled_from(["x-key", "api-key", "x-other"]), st.sampled_from(["a", "b", ""])
        ),
        st.tuples(
            st.just("cookie"),
            st.sampled_from(
                ["sid=a", "x=1; sid=a", 'sid="a"', "sid=a; sid=b", "x=1", "sid=", "sid"]
            ),
        ),
    ),
    max_size=4,
)


def compiled(http: dict[str, Any] | None) -> Keyspace:
    document = {"keyspace": "acme", "scopes": {"vps:read": "", "vps:write": ""}}
    return compile_keyspace(
        declaration_from_document(document if http is None else {**document, "http": http})
    )


def the_same(keyspace: Keyspace, reason: Reason, retry_after: int | None) -> None:
    limit = RateLimitStatus(
        Limit(Subject.KEY, "k", Rate(60, MINUTE)), 3, 1_768_473_060, retry_after
    )
    limited = reason in {Reason.SCOPE_MISSING, Reason.RATE_LIMITED}
    there = keyspace.http.answer(
        edge.Denial(
            reason=reason,
            required_scopes=("vps:read", "vps:write"),
            missing_scopes=("vps:write",),
            request_id="req_1",
            time="2026-01-15T10:30:00Z",
            rate_limit=limit if limited else None,
        )
    )
    message = keyspace_of(keyspace)
    answers = HttpAnswers(message.http if message.HasField("http") else None, keyspace.name)
    here = answers.denial(
        keyfence.Reason(reason.name),
        required_scopes=("vps:read", "vps:write"),
        missing_scopes=("vps:write",),
        request_id="req_1",
        time=NOW,
        # Told of every key, and shown with none but good ones.
        limit=keyfence.RateLimitStatus(
            limit=60,
            remaining=3,
            reset_time=datetime.fromtimestamp(1_768_473_060, UTC),
            retry_after=retry_after,
            window=MINUTE,
            subject=keyfence.RateLimitSubject.KEY,
            count=keyfence.RateLimitCount.WHOLE,
        ),
    )
    assert here.status == there.status
    assert sorted(here.headers) == sorted(there.headers)
    assert json.loads(here.body) == json.loads(there.body)


@given(st.none() | SECTIONS, st.sampled_from(DENIALS), st.none() | st.just(17))
def test_denials_are_the_same(
    section: dict[str, Any] | None, reason: Reason, retry_after: int | None
) -> None:
    the_same(compiled(section), reason, retry_after)


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("reason", DENIALS, ids=str)
def test_denials_of_the_five_systems_are_the_same(name: str, reason: Reason) -> None:
    the_same(compile_keyspace(declaration_from(declared_message(name))), reason, 17)


@given(st.sampled_from(PLACES), LINES)
def test_credentials_are_found_in_the_same_places(
    places: dict[str, Any], lines: list[tuple[str, str]]
) -> None:
    keyspace = compiled({"credentials": places})
    there = presented_in(lines, keyspace.http)
    taken = take_credential(
        [(name.encode(), value.encode()) for name, value in lines],
        HttpAnswers(keyspace_of(keyspace).http, "acme").places,
    )

    assert taken.credential == there.credential
    malformed = taken.problem is keyfence.Reason.CREDENTIAL_MALFORMED
    assert malformed == there.is_ambiguous
    left = b"\n".join(value for _, value in taken.headers_left)
    if places.get("bearer"):
        assert b"Bearer" not in left
    if there.cookies_left is not None:
        cookies = [value.decode() for name, value in taken.headers_left if name == b"cookie"]
        assert "; ".join(cookies) == there.cookies_left
