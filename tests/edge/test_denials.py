"""What a denied caller sees, and what the operator sees."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from keyfence import KeyState
from support.edge.http import Answer, bearer
from support.edge.sites import Site, essential

VARYING = {"requestId", "timestamp"}


def seen(answer: Answer) -> tuple[int, dict[str, str], str]:
    """An answer without what differs from one request to the next."""
    body = answer.json()
    meta = body.get("meta")
    if isinstance(meta, dict):
        body["meta"] = {name: value for name, value in meta.items() if name not in VARYING}
    return answer.status, essential(answer.headers), json.dumps(body)


def test_the_answer_does_not_tell_why_a_credential_does_not_pass(site: Site) -> None:
    """Missing, malformed, made up, revoked, expired, disabled or another system's key: the
    same answer. Otherwise it would tell which keys there are."""
    authority = site.authority
    good = site.usual_key()
    revoked, expiring, disabled = site.usual_key(), site.usual_key(), site.usual_key()
    site.revoke(revoked)
    operator = authority.operator
    for key, change in ((disabled, "disable"), (expiring, "expire")):
        key_id = authority.key_id_of(key, site.name)
        if change == "disable":
            operator.update_key(key_id, state=KeyState.DISABLED)
        else:
            operator.update_key(key_id, expire_time=authority.clock.now() + timedelta(seconds=1))
    authority.clock.advance(timedelta(seconds=2))
    other_system = "supascale" if site.name != "supascale" else "quicksrv"
    foreign = authority.make_key(other_system)
    made_up = good[:-6] + ("a" * 6 if good[-6:] != "a" * 6 else "b" * 6)

    answers = {
        "missing": site.usual([]),
        "empty": site.usual([("Authorization", "Bearer ")]),
        "malformed": site.usual([bearer("nonsense")]),
        "made up": site.usual([bearer(made_up)]),
        "revoked": site.usual([bearer(revoked)]),
        "expired": site.usual([bearer(expiring)]),
        "disabled": site.usual([bearer(disabled)]),
        "of another system": site.usual([bearer(foreign)]),
        "twice": site.usual([bearer(good), bearer(good)]),
    }

    expected = seen(answers["missing"])
    assert expected[0] == 401
    for cause, answer in answers.items():
        assert seen(answer) == expected, cause
        assert answer.header("cache-control") == "no-store"
        assert len(answer.body) == len(answers["missing"].body)
    assert site.upstream.take() == []
    assert site.usual([bearer(good)]).status == 200


def test_a_401_says_how_to_authenticate(site: Site) -> None:
    answer = site.usual([])

    assert answer.header("www-authenticate") == f'Bearer realm="{site.name}"'
    assert answer.header("content-type") == "application/json"


def test_the_access_log_tells_the_operator_what_the_answer_does_not(
    site_of: Callable[[str], Site],
) -> None:
    """The verdict goes out as dynamic metadata, and the key itself does not."""
    quicksrv = site_of("quicksrv")
    key = quicksrv.usual_key()
    key_id = quicksrv.authority.key_id_of(key, "quicksrv")
    quicksrv.usual([bearer(key)])
    quicksrv.with_key(key, "POST", "/api/v1/instances")
    quicksrv.revoke(key)
    answer = quicksrv.usual([bearer(key)])

    lines = _lines_of(quicksrv, answer.header("x-request-id"))

    about_key = [line for line in lines if line["key_id"] == key_id]
    assert [(line["status"], line["reason"]) for line in about_key] == [
        (200, "OK"),
        (403, "SCOPE_MISSING"),
        (401, "KEY_REVOKED"),
    ]
    assert about_key[-1]["request_id"] == answer.header("x-request-id")
    assert key not in quicksrv.envoy.output


def _lines_of(site: Site, last_request_id: str | None) -> list[dict[str, object]]:
    """The access log up to this request. Envoy writes it a moment behind."""
    assert last_request_id is not None
    site.envoy.wait_for_output(last_request_id)
    return [json.loads(line) for line in site.envoy.output.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("value", ["../../etc/passwd", "a" * 500, 'x"y', "\\u0000"])
def test_a_request_id_of_the_client_is_not_taken_over(
    site_of: Callable[[str], Site], value: str
) -> None:
    """QuantumSafe's answers quote it."""
    quantumsafe = site_of("quantumsafe")

    answer = quantumsafe.usual([("x-request-id", value)])

    assert answer.json()["meta"]["requestId"] == answer.header("x-request-id") != value
