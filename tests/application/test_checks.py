"""The two questions: whose key is it, and may it do that?"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from application.authority import ACME, Authority, refused
from keyfence_server.domain.decisions import MAX_REQUIRED_SCOPES, Question
from keyfence_server.domain.declarations import BodyDeclaration, FormatDeclaration
from keyfence_server.domain.keys import KeyState
from keyfence_server.domain.reasons import Reason
from support.clock import START

DAY = timedelta(days=1)
SCOPES = ("vps:read", "vps:write", "vps:create", "dns:read", "projects:read", "projects:write")


async def test_each_fault_is_told_apart_for_the_asking_service(authority: Authority) -> None:
    made = await authority.make(scopes=["vps:read"])
    text = made.plaintext.reveal()
    acme = await authority.read_keyspaces.get(authority.root, "acme")
    never_made = acme.forms["secret", "live"].mint()
    for presented, reason in (
        ("", Reason.CREDENTIAL_MISSING),
        ("Bearer " + text, Reason.CREDENTIAL_MALFORMED),
        (text[:-1] + ("0" if text[-1] != "0" else "1"), Reason.CREDENTIAL_MALFORMED),
        (text.upper(), Reason.CREDENTIAL_MALFORMED),
        (text + "\x00", Reason.CREDENTIAL_MALFORMED),
        (text + "é", Reason.CREDENTIAL_MALFORMED),
        ("\ud800", Reason.CREDENTIAL_MALFORMED),
        ("' OR '1'='1", Reason.CREDENTIAL_MALFORMED),
        ("x" * 100_000, Reason.CREDENTIAL_MALFORMED),
        (never_made, Reason.KEY_UNKNOWN),
        (made, Reason.OK),
    ):
        verdict = await authority.check(presented)
        assert verdict.reason is reason, presented
        assert (verdict.facts is None) == (reason is not Reason.OK)
        assert (await authority.check(presented, "vps:read")).reason is reason


async def test_reasons_come_in_their_order(authority: Authority) -> None:
    """Each step adds a fault that comes before the ones that the key has already."""
    made = await authority.make(
        scopes=["vps:read"], allowed_addresses=["10.0.0.0/8"], expire_time=START + DAY
    )
    key_id = made.facts.key_id

    async def reason(**question: Any) -> Reason:
        return (await authority.check(made, "vps:create", **question)).reason

    assert await reason(client_address="10.0.0.1") is Reason.SCOPE_MISSING
    assert await reason() is Reason.ADDRESS_NOT_ALLOWED
    assert await reason(client_address="::ffff:11.0.0.1") is Reason.ADDRESS_NOT_ALLOWED
    await authority.update(None, key_id, state=KeyState.DISABLED)
    assert await reason() is Reason.KEY_DISABLED
    authority.clock.advance(DAY)
    assert await reason() is Reason.KEY_EXPIRED
    await authority.revoke(None, key_id)
    assert await reason() is Reason.KEY_REVOKED
    assert await reason(keyspace="acme") is Reason.KEY_REVOKED
    assert (await authority.check(made, "vps:read", keyspace="other")).reason is (
        Reason.KEYSPACE_MISMATCH
    )


async def test_a_known_key_that_does_not_pass_is_named_all_the_same(authority: Authority) -> None:
    made = await authority.make()
    await authority.revoke(None, made.facts.key_id)
    verdict = await authority.check(made)
    assert verdict.facts is not None
    assert verdict.facts.key_id == made.facts.key_id


@pytest.mark.parametrize("keyspace", ["", "acme"])
async def test_an_unregistered_scope_is_a_fault_and_never_a_yes(
    authority: Authority, keyspace: str
) -> None:
    """Not even for "*": a misspelt scope in the calling service would otherwise open the door."""
    made = await authority.make(scopes=["*"])
    with refused("UNKNOWN_SCOPE", "required_scopes[1]", nearest="vps:read"):
        await authority.check(made, "vps:read", "vps:raed", keyspace=keyspace)
    for wildcard in ("*", "vps:*"):
        with refused("INVALID_FIELD", "required_scopes[0]"):
            await authority.check(made, wildcard, keyspace=keyspace)


async def test_an_unregistered_scope_is_told_before_the_key_is_looked_at(
    authority: Authority,
) -> None:
    with refused("UNKNOWN_SCOPE", "required_scopes[0]"):
        await authority.check("no key at all", "vps:raed", keyspace="acme")


async def test_a_check_needs_scopes_and_not_too_many(authority: Authority) -> None:
    """Otherwise every key would pass a check that names no scope."""
    text = (await authority.make(scopes=["*"])).plaintext.reveal()
    for scopes in ([], ["vps:read"] * (MAX_REQUIRED_SCOPES + 1)):
        with refused("INVALID_FIELD", "required_scopes"):
            await authority.checks.answer(authority.root, Question(text, required_scopes=scopes))


@pytest.mark.parametrize("address", ["10.0.0.1:80", "fe80::1%eth0", "host", "10.0.0.0/8", "\ud800"])
async def test_an_address_that_is_none_is_a_fault_of_the_caller(
    authority: Authority, address: str
) -> None:
    made = await authority.make(scopes=["*"])
    with refused("INVALID_FIELD", "client_address"):
        await authority.check(made, client_address=address)


async def test_an_answer_waits_for_no_revision_but_says_so(authority: Authority) -> None:
    made = await authority.make(scopes=["*"])
    now = await authority.revision()
    assert (await authority.check(made, at_least_revision=now)).revision == now
    with refused("REVISION_NOT_REACHED", revision=str(now)):
        await authority.check(made, at_least_revision=now + 1)


async def test_one_entry_answers_every_scope_by_itself(authority: Authority) -> None:
    """Threat 6: were the decision remembered, a yes to the first scope would be one to the
    next."""
    made = await authority.make(scopes=["vps:write"], allowed_addresses=["10.0.0.0/8"])
    before = authority.cache.counts.store_loads
    for _ in range(2):
        for scope, inside, outside in (
            ("vps:write", Reason.OK, Reason.ADDRESS_NOT_ALLOWED),
            ("vps:create", Reason.SCOPE_MISSING, Reason.ADDRESS_NOT_ALLOWED),
            ("vps:read", Reason.OK, Reason.ADDRESS_NOT_ALLOWED),
            ("dns:read", Reason.SCOPE_MISSING, Reason.ADDRESS_NOT_ALLOWED),
        ):
            for address, reason in (("10.0.0.1", inside), ("192.0.2.1", outside)):
                verdict = await authority.check(made, scope, client_address=address)
                assert verdict.reason is reason
    assert authority.cache.counts.store_loads - before <= 2


async def test_time_is_asked_anew_at_every_check(authority: Authority) -> None:
    made = await authority.make(scopes=["vps:read"], expire_time=START + DAY)
    assert (await authority.check(made, "vps:read")).reason is Reason.OK
    authority.clock.set(START + DAY - timedelta(microseconds=1))
    assert (await authority.check(made, "vps:read")).reason is Reason.OK
    authority.clock.set(START + DAY)
    assert (await authority.check(made, "vps:read")).reason is Reason.KEY_EXPIRED
    authority.clock.set(START)
    assert (await authority.check(made, "vps:read")).reason is Reason.OK


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    questions=st.lists(
        st.tuples(st.integers(0, 3), st.lists(st.sampled_from(SCOPES), min_size=1, max_size=3)),
        min_size=1,
        max_size=20,
    )
)
async def test_checks_at_once_answer_what_they_answer_one_by_one(
    authority: Authority, questions: list[tuple[int, list[str]]]
) -> None:
    """Threat 8: answers that share a load, or a cache, must not be mixed up."""
    grants: tuple[list[str], ...] = (["*"], ["vps:write"], ["projects:write"], [])
    keys = [await authority.make(scopes=some) for some in grants]
    authority.cache.clear()
    at_once = await asyncio.gather(
        *(authority.check(keys[which], *scopes) for which, scopes in questions)
    )
    for (which, scopes), verdict in zip(questions, at_once, strict=True):
        single = await authority.check(keys[which], *scopes)
        assert verdict.facts is not None
        assert verdict.facts.key_id == keys[which].facts.key_id
        assert (verdict.reason, verdict.missing_scopes) == (single.reason, single.missing_scopes)


async def test_an_explanation_names_the_grant_the_way_and_what_is_lacking(
    authority: Authority,
) -> None:
    made = await authority.make(scopes=["vps:create"])
    child = await authority.make(scopes=["vps:write"], parent_key_id=made.facts.key_id)
    question = Question(
        child.plaintext.reveal(),
        required_scopes=["vps:read", "vps:create", "dns:read"],
        explain=True,
    )
    verdict = await authority.checks.answer(authority.root, question)
    assert verdict.missing_scopes == ("vps:create", "dns:read")
    assert verdict.explanation is not None
    ((path),) = verdict.explanation.held
    assert (path.granted, path.path) == ("vps:write", ("vps:write", "vps:read"))
    # The parent does not hold it, so to grant it to the child would not help.
    ((capped),) = verdict.explanation.capped
    assert (capped.scope, capped.capped_by) == ("dns:read", f"parent:{made.facts.key_id}")
    assert verdict.explanation.sufficient_grants == ("vps:create",)


async def test_nothing_is_explained_unless_the_caller_asks(authority: Authority) -> None:
    made = await authority.make(scopes=["*"])
    assert (await authority.check(made, "dns:read")).explanation is None


async def test_keys_of_earlier_formats_still_work(authority: Authority) -> None:
    """Were the old format forgotten, a change of prefix would lock every key out."""
    old = await authority.make(scopes=["vps:read"])
    body = BodyDeclaration(alphabet="hex", length=40, shown=4)
    changed = FormatDeclaration(template="acme-{body}", body=body)
    await authority.declare(ACME, format=changed)
    new = await authority.make(scopes=["vps:read"])
    assert new.plaintext.reveal().startswith("acme-")
    authority.cache.clear()
    for key in (old, new):
        assert (await authority.check(key, "vps:read")).reason is Reason.OK
    await authority.revoke(None, old.facts.key_id)
    assert (await authority.check(old, "vps:read")).reason is Reason.KEY_REVOKED
