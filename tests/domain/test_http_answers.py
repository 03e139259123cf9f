"""The section `http:` of a keyspace: what is refused, what comes back, what is answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfence_server.convert.keyspaces import declaration_from, keyspace_of
from keyfence_server.domain.declarations import HttpDeclaration
from keyfence_server.domain.documents import declaration_from_document, declaration_to_document
from keyfence_server.domain.errors import InvalidDeclaration
from keyfence_server.domain.http_answers import Denial, HttpRules
from keyfence_server.domain.keyspaces import compile_keyspace
from keyfence_server.domain.reasons import Reason

DENIALS = [reason for reason in Reason if reason is not Reason.OK]
UNAUTHENTICATED = [
    reason for reason in DENIALS if reason not in {Reason.SCOPE_MISSING, Reason.RATE_LIMITED}
]

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="{}"), max_size=40)
PLACED = st.builds(
    "{}{}{}".format, TEXTS, st.sampled_from(["", "{missing_scopes}", "{retry_after}"]), TEXTS
)
BODIES = st.fixed_dictionaries(
    {"error": st.sampled_from(["{message}", "{code}", "is {status}"])},
    optional={"more": st.dictionaries(TEXTS, st.integers() | st.none() | TEXTS, max_size=3)},
)
ANSWERS = st.dictionaries(
    st.sampled_from(["unauthenticated", *(reason.name.lower() for reason in DENIALS)]),
    st.fixed_dictionaries(
        {},
        optional={
            "status": st.sampled_from([400, 401, 403, 404, 429]),
            "code": st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True),
            "message": PLACED,
            "body": BODIES,
            "www_authenticate": st.sampled_from(["Bearer", 'ApiKey realm="{keyspace}"']),
        },
    ),
)
SECTIONS = st.fixed_dictionaries(
    {},
    optional={
        "credentials": st.sampled_from(
            [
                {"bearer": True},
                {"headers": ["X-Key", "Api-Key"]},
                {"cookie": "sid", "bearer": True},
            ]
        ),
        "answers": ANSWERS,
        "content_type": st.sampled_from(["application/json", "application/problem+json"]),
        "body": BODIES,
        "rate_limit_headers": st.sampled_from([{}, {"limit": "X-Limit", "reset": "X-Reset"}]),
    },
)


def rules(section: dict[str, Any] | None = None) -> HttpRules:
    document: dict[str, Any] = {"keyspace": "acme", "scopes": {"vps:read": "", "vps:write": ""}}
    if section is not None:
        document["http"] = section
    return compile_keyspace(declaration_from_document(document)).http


def problems(section: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidDeclaration) as refused:
        rules(section)
    return {one.where: one.message for one in refused.value.problems}


@given(SECTIONS)
def test_what_was_declared_comes_back_by_document_and_by_message(section: dict[str, Any]) -> None:
    declaration = declaration_from_document({"keyspace": "acme", "http": section})

    assert declaration_from_document(declaration_to_document(declaration)) == declaration
    assert declaration_from(keyspace_of(compile_keyspace(declaration))) == declaration


@given(SECTIONS, st.sampled_from(DENIALS))
def test_every_accepted_declaration_answers_every_reason(
    section: dict[str, Any], reason: Reason
) -> None:
    """What is accepted when it is applied can be rendered when it is needed."""
    answer = rules(section).answer(
        Denial(reason=reason, required_scopes=("vps:read",), missing_scopes=("vps:read",))
    )

    assert 400 <= answer.status < 500
    assert isinstance(json.loads(answer.body), dict)
    for name, value in answer.headers:
        assert name
        assert value.isascii()
        assert value.isprintable()


def test_by_default_all_credentials_that_do_not_pass_get_one_answer() -> None:
    default = rules()

    answers = {default.answer(Denial(reason=reason)) for reason in UNAUTHENTICATED}

    (answer,) = answers
    assert answer.status == 401
    assert dict(answer.headers)["www-authenticate"] == 'Bearer realm="acme"'


def test_a_reason_of_its_own_answer_keeps_what_it_leaves_open() -> None:
    told = rules(
        {
            "answers": {
                "unauthenticated": {"code": "NO", "message": "No."},
                "key_expired": {"message": "Expired."},
            }
        }
    )

    assert json.loads(told.answer(Denial(reason=Reason.KEY_EXPIRED)).body) == {
        "error": "NO",
        "error_description": "Expired.",
    }
    assert "No." in told.answer(Denial(reason=Reason.KEY_REVOKED)).body


def test_scopes_stand_in_the_challenge_as_rfc_6750_has_it() -> None:
    told = rules(
        {"answers": {"scope_missing": {"www_authenticate": 'Bearer scope="{missing_scopes}"'}}}
    )

    answer = told.answer(
        Denial(reason=Reason.SCOPE_MISSING, missing_scopes=("vps:read", "vps:write"))
    )

    assert dict(answer.headers)["www-authenticate"] == 'Bearer scope="vps:read vps:write"'


def test_a_text_is_a_body_too() -> None:
    told = rules({"content_type": "text/plain", "body": "{status} {message}"})

    assert told.answer(Denial(reason=Reason.RATE_LIMITED)).body == "429 Too many requests"


def test_a_default_is_not_written_down() -> None:
    declaration = declaration_from_document({"keyspace": "acme", "http": {}})

    assert declaration.http == HttpDeclaration()
    assert "http" not in declaration_to_document(declaration)


@pytest.mark.parametrize(
    ("section", "path"),
    [
        ({"credentials": {}}, "http.credentials"),
        ({"credentials": {"headers": ["Cookie"]}}, "http.credentials.headers[0]"),
        ({"credentials": {"headers": ["X-Key\r\nX"]}}, "http.credentials.headers[0]"),
        ({"credentials": {"headers": ["X_Key"]}}, "http.credentials.headers[0]"),
        ({"credentials": {"headers": ["X-Keyfence-Key-Id"]}}, "http.credentials.headers[0]"),
        ({"credentials": {"headers": ["X-Key", "x-key"]}}, "http.credentials.headers"),
        ({"credentials": {"headers": list("abcde")}}, "http.credentials.headers"),
        ({"credentials": {"cookie": "a b"}}, "http.credentials.cookie"),
        ({"credentials": {"cookies": "a", "bearer": True}}, "http.credentials.cookies"),
        ({"content_type": "text/html"}, "http.content_type"),
        ({"body": {"error": "{mesage}"}}, "http.body"),
        ({"body": {"error": "{"}}, "http.body"),
        ({"body": ["{message}"]}, "http.body"),
        ({"body": "plain text"}, "http.body"),
        ({"body": {"error": "x" * 4_000}}, "http.body"),
        ({"answers": {"expired": {}}}, "http.answers[expired]"),
        ({"answers": {"ok": {}}}, "http.answers[ok]"),
        ({"answers": {"rate_limited": {"status": 200}}}, "http.answers[rate_limited].status"),
        ({"answers": {"rate_limited": {"status": 302}}}, "http.answers[rate_limited].status"),
        ({"answers": {"rate_limited": {"status": 418}}}, "http.answers[rate_limited].status"),
        ({"answers": {"rate_limited": {"code": "a b"}}}, "http.answers[rate_limited].code"),
        (
            {"answers": {"rate_limited": {"message": "{message}"}}},
            "http.answers[rate_limited].message",
        ),
        (
            {"answers": {"rate_limited": {"www_authenticate": "a\r\nSet-Cookie: b"}}},
            "http.answers[rate_limited].www_authenticate",
        ),
        (
            {"answers": {"rate_limited": {"www_authenticate": "{request_id}"}}},
            "http.answers[rate_limited].www_authenticate",
        ),
        ({"rate_limit_headers": {"limit": "Set-Cookie"}}, "http.rate_limit_headers.limit"),
        ({"rate_limit_headers": {"limit": "A", "reset": "a"}}, "http.rate_limit_headers"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_with_its_place(section: dict[str, Any], path: str) -> None:
    assert path in problems(section)
