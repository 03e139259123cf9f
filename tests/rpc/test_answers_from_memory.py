"""What memory alone answers is what the long way answers, and it is never asked in vain."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from application.authority import ACME, ROOT, Authority
from keyfence_server.application.callers import AccountKey, Caller, Operator
from keyfence_server.application.calls import NO_CALL
from keyfence_server.domain.decisions import Question, Verdict
from keyfence_server.domain.declarations import ScopeDeclaration
from keyfence_server.domain.errors import DomainError
from keyfence_server.domain.keys import KeyState
from keyfence_server.domain.reasons import Reason
from keyfence_server.domain.secrets import KeyedHash
from support.clock import START

SCOPES = ("vps:read", "vps:write", "dns:read", "projects:read", "vps:reed", "*")


async def all_callers(authority: Authority) -> list[Caller]:
    """Operators of every reach, and an account."""
    return [
        authority.root,
        await authority.operator("acme"),
        await authority.operator("other"),
        await authority.acting(await authority.make(scopes=["*"])),
    ]


async def all_keys(authority: Authority) -> list[str]:
    """Keys of every fate, and what is none."""
    kinds: list[dict[str, Any]] = [
        {"scopes": ["vps:write"]},
        {"scopes": ["*"]},
        {"scopes": ["vps:read"], "key_type": "publishable"},
        {"scopes": ["vps:write"], "allowed_addresses": ["10.0.0.0/8"]},
        {"scopes": ["vps:write"], "expire_time": START + timedelta(seconds=30)},
        {"scopes": ["vps:read"], "keyspace": "other"},
    ]
    made = [await authority.make(**kind) for kind in kinds]
    revoked, disabled, above = [await authority.make(scopes=["*"]) for _ in range(3)]
    below = await authority.make(scopes=["vps:read"], parent_key_id=above.facts.key_id)
    await authority.update(None, above.facts.key_id, state=KeyState.DISABLED)
    await authority.update(None, disabled.facts.key_id, state=KeyState.DISABLED)
    await authority.revoke(None, revoked.facts.key_id)
    texts = [one.plaintext.reveal() for one in (*made, revoked, disabled, above, below)]
    return [*texts, "", "no key", "ключ", "x" * 5_000, ROOT.reveal()]


@pytest.fixture
async def callers(authority: Authority) -> list[Caller]:
    return await all_callers(authority)


@pytest.fixture
async def keys(authority: Authority) -> list[str]:
    keys = await all_keys(authority)
    for text in keys:
        await authority.check(text)
    return keys


async def outcome(answer: Callable[[], Verdict | Awaitable[Verdict] | None]) -> object:
    """The verdict, or what is wrong with the question."""
    try:
        found = answer()
        return await found if isinstance(found, Awaitable) else found
    except DomainError as error:
        return error.reason, error.message.partition(";")[0]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    scopes=st.none() | st.lists(st.sampled_from(SCOPES), max_size=3),
    keyspace=st.sampled_from(["", "acme", "other", "system", "none"]),
    address=st.sampled_from(["", "10.0.0.1", "11.0.0.1", "nowhere"]),
    behind=st.integers(-1, 1),
    seconds=st.sampled_from([0, 30, 31]),
    explain=st.booleans(),
)
async def test_what_needs_no_look_up_is_answered_as_with_one(
    authority: Authority,
    callers: list[Caller],
    keys: list[str],
    scopes: list[str] | None,
    keyspace: str,
    address: str,
    behind: int,
    seconds: int,
    *,
    explain: bool,
) -> None:
    authority.clock.set(START + timedelta(seconds=seconds))
    for caller in callers:
        for text in keys:
            question = Question(
                text,
                keyspace,
                scopes,
                address,
                authority.cache.revision + behind,
                explain=explain,
            )
            recalled = await outcome(partial(authority.checks.answer_from_memory, caller, question))
            if recalled is not None:
                assert recalled == await outcome(partial(authority.checks.answer, caller, question))


async def test_known_keys_need_no_look_up(authority: Authority, keys: list[str]) -> None:
    """Whatever the verdict is: denials are as cheap as the others."""
    verdicts = [
        authority.checks.answer_from_memory(authority.root, Question(text)) for text in keys
    ]
    reasons = {verdict.reason for verdict in verdicts if verdict is not None}
    assert {Reason.OK, Reason.KEY_REVOKED, Reason.KEY_DISABLED} < reasons


async def test_callers_are_the_same_with_and_without_a_look_up(
    authority: Authority, keys: list[str]
) -> None:
    for text in keys:
        try:
            known = authority.callers.identify_from_memory(text, NO_CALL)
        except DomainError as error:
            with pytest.raises(type(error)):
                await authority.callers.identify(text)
            continue
        if known is not None:
            caller = await authority.callers.identify(text)
            assert isinstance(known, Operator | AccountKey)
            assert isinstance(caller, Operator | AccountKey)
            assert known.facts is caller.facts


async def test_a_keyspace_that_changes_is_not_answered_for_from_memory(
    authority: Authority,
) -> None:
    """Rows are dropped when they are asked for the next time, and not all at once."""
    made = await authority.make(scopes=["vps:write"])
    await authority.check(made, "vps:read")
    text = made.plaintext.reveal()
    question = Question(text, "acme", ["vps:read"])
    assert authority.checks.answer_from_memory(authority.root, question)
    await authority.declare(
        ACME, scopes=(*ACME.scopes[:1], ScopeDeclaration(name="vps:write"), *ACME.scopes[2:])
    )
    assert not authority.checks.answer_from_memory(authority.root, question)
    assert not authority.checks.answer_from_memory(authority.root, question)


@given(secret=st.binary(max_size=200), text=st.text(max_size=100))
def test_a_keyed_hash_is_the_hmac_of_the_standard_library(secret: bytes, text: str) -> None:
    """Keys that were digested otherwise would all be unknown."""
    assert KeyedHash(secret).of(text) == hmac.digest(secret, text.encode(), "sha256")
