"""What Envoy is told of a verdict that may be out of date."""

from __future__ import annotations

from typing import Any

from keyfence_server.domain.facts import compile_facts
from keyfence_server.rpc.envoy.answers import adapted, admission_of
from support.builders import make_key, make_keyspace


def answered(*, claimed: list[str], stale: bool) -> Any:
    facts = compile_facts((make_key(),), make_keyspace())
    return adapted(
        admission_of(facts), claimed=claimed, cookies_left=None, response_headers=(), stale=stale
    )


def test_a_stale_verdict_says_so_to_the_upstream_and_to_the_access_log() -> None:
    message = answered(claimed=[], stale=True)
    headers = {one.header.key: one.header.value for one in message.ok_response.headers}
    assert headers["x-keyfence-stale"] == "true"
    assert dict(message.dynamic_metadata)["stale"] is True


def test_no_other_answer_is_marked_so() -> None:
    message = answered(claimed=["x-keyfence-stale"], stale=False)
    assert "x-keyfence-stale" in message.ok_response.headers_to_remove
    assert "x-keyfence-stale" not in {one.header.key for one in message.ok_response.headers}
    assert "stale" not in dict(message.dynamic_metadata)
