"""What a caller who is not let through gets, to the byte: status, headers and body."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from keyfence import KeyState
from keyfence_server.adapters.keyspace_files.reading import parse_keyspace_file
from keyfence_server.convert.keyspaces import keyspace_of
from keyfence_server.domain.reasons import Reason
from support.edge.authority import Authority
from support.edge.configuration import Route, edge_config
from support.edge.envoy import StartEnvoy
from support.edge.http import Answer, Headers, bearer, send
from support.edge.sites import Site, essential
from support.edge.upstream import Upstream

UNAUTHENTICATED: Final = {
    "quicksrv": '{"error": {"code": "unauthorized", "message": "Unauthorized"}}',
    "sitequest": '{"error": "Invalid or missing API key", "code": "UNAUTHORIZED", "status": 401}',
    "quantumsafe": (
        '{"error": {"code": "AUTH_002", "message": "The API key is missing or not valid"}, '
        '"meta": {"requestId": "ID", "timestamp": "TIME"}}'
    ),
    "supascale": '{"error": "Invalid API key", "code": "invalid_api_key"}',
    "xquik": (
        '{"error": "invalid_token", "error_description": "The credential is missing or not valid"}'
    ),
}

LACKING: Final = {
    "quicksrv": (
        '{"error": {"code": "forbidden", "message": "Forbidden: the key lacks the scope vps:read"}}'
    ),
    "sitequest": (
        '{"error": "API key lacks the required scope(s)", '
        '"code": "INSUFFICIENT_SCOPE", "status": 403}'
    ),
    "supascale": '{"error": "Permission denied", "code": "permission_denied"}',
}


def without_what_varies(answer: Answer) -> str:
    """The body, with a word for the request's id and one for the time."""
    body = answer.body.decode().replace(answer.header("x-request-id") or "-", "ID")
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", body)


def require(answer: Answer, status: int, headers: dict[str, str], body: str) -> None:
    expected = {
        "content-type": "application/json",
        "cache-control": "no-store",
        "content-length": str(len(answer.body)),
        "server": "envoy",
        **headers,
    }
    assert (answer.status, without_what_varies(answer)) == (status, body)
    assert essential(answer.headers) == expected


def test_a_credential_that_does_not_pass_gets_exactly_this(site: Site) -> None:
    answer = site.usual([])

    challenge = {"www-authenticate": f'Bearer realm="{site.name}"'}
    require(answer, 401, challenge, UNAUTHENTICATED[site.name])


def test_the_answer_tells_its_own_request_and_time(site_of: Callable[[str], Site]) -> None:
    quantumsafe = site_of("quantumsafe")
    before = int(quantumsafe.authority.clock.timestamp())

    answer = quantumsafe.usual([])

    meta = answer.json()["meta"]
    told = datetime.strptime(meta["timestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert before <= told.timestamp() <= quantumsafe.authority.clock.timestamp()
    assert meta["requestId"] == answer.header("x-request-id")


@pytest.mark.parametrize("name", LACKING)
def test_a_key_without_the_scope_gets_exactly_this(
    site_of: Callable[[str], Site], name: str
) -> None:
    site = site_of(name)

    answer = site.usual([bearer(site.key())])

    headers = {"www-authenticate": f'Bearer realm="{name}", error="insufficient_scope"'}
    if name == "sitequest":
        headers |= {
            "x-ratelimit-limit": "60",
            "x-ratelimit-remaining": "60",
            "x-ratelimit-reset": answer.header("x-ratelimit-reset") or "",
        }
        assert headers["x-ratelimit-reset"].isdigit()
    require(answer, 403, headers, LACKING[name])


def test_a_call_of_grpc_that_is_denied_gets_the_status_of_grpc(
    site_of: Callable[[str], Site],
) -> None:
    """Envoy would make UNAVAILABLE of 429, and clients of gRPC retry that."""
    sitequest = site_of("sitequest")
    grpc = ("content-type", "application/grpc")
    limited, reader = sitequest.usual_key(), sitequest.key("domains:read")
    for _ in range(60):
        sitequest.usual([bearer(limited)])

    statuses = [
        sitequest.usual([*credential, grpc]).header("grpc-status")
        for credential in ([bearer(limited)], [bearer(reader)], [], [bearer("made-up")])
    ]

    assert statuses == ["8", "7", "16", "16"]
    assert sitequest.usual([bearer(limited)]).header("grpc-status") is None


def test_a_throttled_key_gets_exactly_this(site_of: Callable[[str], Site]) -> None:
    sitequest = site_of("sitequest")
    key = sitequest.usual_key()
    for _ in range(60):
        assert sitequest.usual([bearer(key)]).status == 200

    answer = sitequest.usual([bearer(key)])

    reset, wait = (answer.header(name) or "" for name in ("x-ratelimit-reset", "retry-after"))
    assert reset.isdigit()
    assert wait.isdigit()
    require(
        answer,
        429,
        {
            "x-ratelimit-limit": "60",
            "x-ratelimit-remaining": "0",
            "x-ratelimit-reset": reset,
            "retry-after": wait,
        },
        '{"error": "Too many requests", "code": "RATE_LIMITED", "status": 429}',
    )


SPOKEN: Final = """\
keyspace: {name}
format: {{template: "{name}_{{body}}"}}
scopes: [a:read, a:write]
accounts: {{registration: closed}}
limits: {{per_key: 1/hour}}
http:
  credentials: {{bearer: true}}
  content_type: {content_type}
  body: {body}
  answers:
    unauthenticated: {{status: 401, code: any, message: Never}}
    credential_missing: {{status: 407, code: c1, message: Say who you are}}
    credential_malformed: {{status: 400, code: c2, message: That is no key}}
    key_unknown: {{status: 404, code: c3, message: There is no such key}}
    key_revoked: {{status: 410, code: c4, message: It was taken back}}
    key_expired: {{status: 402, code: c5, message: Its time is over}}
    key_disabled: {{status: 423, code: c6, message: It is switched off}}
    account_disabled: {{status: 409, code: c7, message: Your account is switched off}}
    address_not_allowed: {{status: 421, code: c8, message: Not from there}}
    keyspace_mismatch: {{status: 406, code: c9, message: That is another product's}}
    scope_missing: {{code: c10, message: "You lack {{missing_scopes}} of {{required_scopes}}"}}
    rate_limited: {{code: c11, message: "{{limit}} an hour"}}
"""

TEXT: Final = '"{status} {code} in {keyspace}: {message} {{so}}"'
PROBLEM: Final = '{title: "{message}", type: "urn:{code}", status: "{status}", in: "{keyspace}"}'

SAID: Final = {
    "credential_missing": (407, "c1", "Say who you are"),
    "credential_malformed": (400, "c2", "That is no key"),
    "key_unknown": (404, "c3", "There is no such key"),
    "key_revoked": (410, "c4", "It was taken back"),
    "key_expired": (402, "c5", "Its time is over"),
    "key_disabled": (423, "c6", "It is switched off"),
    "account_disabled": (409, "c7", "Your account is switched off"),
    "address_not_allowed": (421, "c8", "Not from there"),
    "keyspace_mismatch": (406, "c9", "That is another product's"),
    "scope_missing": (403, "c10", "You lack a:write of a:read, a:write"),
    "rate_limited": (429, "c11", "1 an hour"),
}


class Spoken:
    """A system with an answer of its own for each cause, and a request for each."""

    def __init__(
        self, name: str, authority: Authority, upstream: Upstream, start_envoy: StartEnvoy
    ) -> None:
        self._name = name
        self._authority = authority
        config = edge_config(
            keyfence_port=authority.port,
            upstream_port=upstream.port,
            keyspace=name,
            routes=[Route("GET", "/good"), Route("GET", "/both", "a:read, a:write")],
        )
        # An Envoy that may ask about another system too can be told that a key is of that one.
        token = authority.edge_token(name, "quicksrv")
        self._port = start_envoy(config, token).ports["edge"]

    def answers(self) -> dict[str, Answer]:
        """The answer to a request of each cause."""
        authority, operator = self._authority, self._authority.operator
        good = self._key()
        revoked, expiring, disabled = self._key(), self._key(), self._key()
        operator.revoke_key(self._id(revoked))
        operator.update_key(self._id(disabled), state=KeyState.DISABLED)
        soon = authority.clock.now() + timedelta(seconds=1)
        operator.update_key(self._id(expiring), expire_time=soon)
        authority.clock.advance(timedelta(seconds=1))
        account = operator.register_account(
            self._name, "a@example.com", "correct horse b"
        ).account.account_id
        locked_out = operator.create_key(keyspace=self._name, account_id=account).api_key
        operator.disable_account(account)
        limited = self._key()
        assert self._get("/good", [bearer(limited)]).status == 200
        return {
            "credential_missing": self._get("/good"),
            "credential_malformed": self._get("/good", [bearer("nonsense")]),
            "key_unknown": self._get("/good", [bearer(good[:-6] + "aaaaaa")]),
            "key_revoked": self._get("/good", [bearer(revoked)]),
            "key_expired": self._get("/good", [bearer(expiring)]),
            "key_disabled": self._get("/good", [bearer(disabled)]),
            "account_disabled": self._get("/good", [bearer(locked_out)]),
            "address_not_allowed": self._get(
                "/good", [bearer(self._key(allowed_addresses=["203.0.113.0/24"]))]
            ),
            "keyspace_mismatch": self._get("/good", [bearer(authority.make_key("quicksrv"))]),
            "scope_missing": self._get("/both", [bearer(self._key("a:read"))]),
            "rate_limited": self._get("/good", [bearer(limited)]),
        }

    def _get(self, path: str, headers: Headers = ()) -> Answer:
        return send(self._port, "GET", path, headers)

    def _key(self, *scopes: str, **fields: object) -> str:
        return self._authority.make_key(self._name, *scopes, **fields)

    def _id(self, api_key: str) -> str:
        return self._authority.key_id_of(api_key, self._name)


@pytest.mark.parametrize(
    ("name", "content_type", "body"),
    [
        ("in-text", "text/plain", TEXT),
        ("in-problems", "application/problem+json", PROBLEM),
    ],
)
def test_each_cause_can_have_an_answer_of_its_own_in_another_form(
    authority: Authority,
    upstream: Upstream,
    start_envoy: StartEnvoy,
    name: str,
    content_type: str,
    body: str,
) -> None:
    text = SPOKEN.format(name=name, content_type=content_type, body=body)
    declared = parse_keyspace_file(text.encode(), name=name).keyspace
    authority.operator.apply_keyspace(keyspace_of(declared))
    spoken = Spoken(name, authority, upstream, start_envoy)

    answers = spoken.answers()

    assert set(answers) == set(SAID) == {one.name.lower() for one in Reason if one is not Reason.OK}
    for cause, answer in answers.items():
        status, code, message = SAID[cause]
        assert (cause, answer.status) == (cause, status)
        assert answer.header("content-type") == content_type
        assert answer.header("cache-control") == "no-store"
        if content_type == "text/plain":
            assert answer.body.decode() == f"{status} {code} in {name}: {message} {{so}}"
        else:
            assert answer.json() == {
                "title": message,
                "type": f"urn:{code}",
                "status": status,
                "in": name,
            }, cause
