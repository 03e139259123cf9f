"""Making keys: what they get, and what is refused."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from typing import Any

import pytest

from application.authority import ACME, Authority, refused
from keyfence_server.application.calls import Call
from keyfence_server.domain.declarations import KeyDefaults, ScopeDeclaration
from keyfence_server.domain.errors import DomainError, InvalidInput
from keyfence_server.domain.keys import KeyState
from keyfence_server.domain.reasons import Reason
from support.clock import START

DAY = timedelta(days=1)


async def test_a_key_works_at_once_and_holds_what_it_was_given(authority: Authority) -> None:
    made = await authority.make(scopes=["vps:write"], display_name="CI", labels={"team": "x"})
    key = made.facts.key
    assert made.plaintext.reveal().startswith("ac_sec_live_")
    assert key.display_prefix == made.plaintext.reveal()[: len("ac_sec_live_") + 6]
    assert (key.display_name, key.labels, key.granted_scopes) == (
        "CI",
        {"team": "x"},
        ("vps:write",),
    )
    assert key.created_by_key_id == authority.root.credential_id
    assert (await authority.check(made, "vps:read", "vps:write")).reason is Reason.OK
    missing = await authority.check(made, "projects:read", "vps:create", "vps:read", "dns:read")
    assert missing.reason is Reason.SCOPE_MISSING
    assert missing.missing_scopes == ("projects:read", "vps:create", "dns:read")
    assert await authority.stored(key.key_id) == key


async def test_the_plaintext_is_nowhere_but_in_the_answer(authority: Authority) -> None:
    made = await authority.make(scopes=["*"])
    body = made.plaintext.reveal()[len("ac_sec_live_") + 6 :]
    assert body not in repr(made)
    assert body not in repr(await authority.stored(made.facts.key_id))


async def test_scopes_and_a_preset_are_combined(authority: Authority) -> None:
    made = await authority.make(scopes=["projects:write"], preset="read-only")
    assert made.facts.key.granted_scopes == ("dns:read", "projects:write", "vps:read")
    assert made.facts.key.preset == "read-only"


async def test_a_key_of_which_nothing_is_said_gets_the_defaults(authority: Authority) -> None:
    bare = (await authority.make()).facts.key
    assert (bare.display_name, bare.key_type, bare.environment) == ("Default", "secret", "live")
    assert (bare.granted_scopes, bare.preset, bare.expire_time) == ((), None, None)
    defaults = KeyDefaults(
        display_name="New", key_type="publishable", environment="test", lifetime=DAY
    )
    await authority.declare(ACME, defaults=defaults)
    given = (await authority.make()).facts.key
    assert (given.display_name, given.key_type, given.environment) == (
        "New",
        "publishable",
        "test",
    )
    assert given.expire_time == START + DAY
    await authority.declare(ACME, defaults=KeyDefaults(preset="full"))
    assert (await authority.make()).facts.key.granted_scopes == ("*",)
    assert (await authority.make(scopes=["dns:read"])).facts.key.granted_scopes == ("dns:read",)


@pytest.mark.parametrize(
    ("wanted", "reason", "field"),
    [
        ({"keyspace": ""}, "INVALID_FIELD", "keyspace"),
        ({"keyspace": "nowhere"}, "KEYSPACE_NOT_FOUND", None),
        ({"account_id": ""}, "INVALID_FIELD", "account_id"),
        ({"account_id": "a b"}, "INVALID_FIELD", "account_id"),
        ({"account_id": "a" * 129}, "INVALID_FIELD", "account_id"),
        ({"account_id": "anna\n"}, "INVALID_FIELD", "account_id"),
        ({"display_name": " "}, "INVALID_FIELD", "display_name"),
        ({"display_name": "x" * 201}, "INVALID_FIELD", "display_name"),
        ({"display_name": "a\nb"}, "INVALID_FIELD", "display_name"),
        ({"display_name": "a\u202eb"}, "INVALID_FIELD", "display_name"),
        ({"display_name": "\x1b[2J"}, "INVALID_FIELD", "display_name"),
        ({"scopes": ["vps:read", "vps:raed"]}, "UNKNOWN_SCOPE", "scopes[1]"),
        ({"scopes": ["vpx:*"]}, "INVALID_FIELD", "scopes[0]"),
        ({"scopes": [""]}, "UNKNOWN_SCOPE", "scopes[0]"),
        ({"scopes": ["vps:read"] * 257}, "INVALID_FIELD", "scopes"),
        ({"scopes": ["vps:write"], "key_type": "publishable"}, "INVALID_FIELD", "scopes[0]"),
        ({"preset": "read-only", "key_type": "publishable"}, "INVALID_FIELD", "preset[0]"),
        ({"preset": "no"}, "INVALID_FIELD", "preset"),
        ({"key_type": "private"}, "INVALID_FIELD", "key_type"),
        ({"environment": "staging"}, "INVALID_FIELD", "environment"),
        ({"expire_time": START}, "INVALID_FIELD", "expire_time"),
        ({"allowed_addresses": ["10.0.0.1/8"]}, "INVALID_FIELD", "allowed_addresses[0]"),
        ({"allowed_addresses": ["::1"] * 65}, "INVALID_FIELD", "allowed_addresses"),
        ({"labels": {"": "x"}}, "INVALID_FIELD", "labels[]"),
        ({"labels": {"a": "x" * 257}}, "INVALID_FIELD", "labels[a]"),
        ({"labels": {str(n): "" for n in range(33)}}, "INVALID_FIELD", "labels"),
        ({"request_id": "a b"}, "INVALID_FIELD", "request_id"),
        ({"request_id": "x" * 65}, "INVALID_FIELD", "request_id"),
        ({"bound_keyspaces": ["acme"]}, "INVALID_FIELD", "bound_keyspaces"),
        ({"keyspace": "system"}, "INVALID_FIELD", "bound_keyspaces"),
        ({"parent_key_id": "key_no"}, "KEY_NOT_FOUND", None),
    ],
    ids=str,
)
async def test_what_cannot_be_made_is_refused_and_nothing_is_changed(
    authority: Authority, wanted: dict[str, Any], reason: str, field: str | None
) -> None:
    before = await authority.revision()
    with refused(reason, field):
        await authority.make(**wanted)
    assert await authority.revision() == before


async def test_an_unknown_scope_is_refused_with_the_nearest(authority: Authority) -> None:
    with refused("UNKNOWN_SCOPE", scope="vps:raed", keyspace="acme", nearest="vps:read"):
        await authority.make(scopes=["vps:raed"])


async def test_a_wildcard_is_narrowed_by_the_type_and_widens_with_the_catalog(
    authority: Authority,
) -> None:
    capped = await authority.make(scopes=["*"], key_type="publishable")
    open_ended = await authority.make(scopes=["vps:*"])
    assert capped.facts.effective_scopes == ("vps:read",)
    later = (*ACME.scopes, ScopeDeclaration(name="vps:new"))
    await authority.declare(ACME, scopes=later)
    assert (await authority.check(open_ended, "vps:new")).reason is Reason.OK
    assert (await authority.check(capped, "vps:new")).reason is Reason.SCOPE_MISSING


async def test_the_longest_lifetime_applies_to_every_caller(authority: Authority) -> None:
    await authority.declare(ACME, max_lifetime=DAY)
    assert (await authority.make()).facts.key.expire_time == START + DAY
    assert (await authority.make(expire_time=START + DAY)).facts.key.expire_time == START + DAY
    with refused("INVALID_FIELD", "expire_time"):
        await authority.make(expire_time=START + DAY + timedelta(microseconds=1))


async def test_a_request_is_carried_out_once_for_each_caller(authority: Authority) -> None:
    made = await authority.make(scopes=["*"], request_id="r-1")
    before = await authority.revision()
    with refused("REQUEST_ALREADY_DONE", key_id=made.facts.key_id):
        await authority.make(scopes=["*"], request_id="r-1")
    assert await authority.revision() == before
    account = await authority.acting(made)
    other = await authority.make(by=account, request_id="r-1")
    assert other.facts.key_id != made.facts.key_id


async def test_of_two_equal_requests_at_once_one_makes_a_key(authority: Authority) -> None:
    """Were the look-up outside the transaction, both would find nothing, and both would make
    one."""
    outcomes = await asyncio.gather(
        *(authority.make(request_id="twice") for _ in range(5)), return_exceptions=True
    )
    refusals = [one for one in outcomes if isinstance(one, DomainError)]
    assert [one.reason for one in refusals] == ["REQUEST_ALREADY_DONE"] * 4


async def test_an_account_makes_keys_of_its_own_alone(authority: Authority) -> None:
    """Threat 12: were the account taken from the request, anyone could make keys for anyone."""
    anna = await authority.acting(await authority.make(scopes=["*"]))
    made = (await authority.make(by=anna, scopes=["vps:read"])).facts.key
    assert (made.account_id, made.keyspace) == ("anna", "acme")
    assert made.created_by_key_id == anna.credential_id
    with refused("INVALID_FIELD", "account_id"):
        await authority.make(by=anna, account_id="bob")
    with refused("KEYSPACE_NOT_BOUND", keyspace="other"):
        await authority.make(by=anna, keyspace="other")
    with refused("KEYSPACE_NOT_BOUND", keyspace="system"):
        await authority.make(by=anna, keyspace="system", bound_keyspaces=["*"])


async def test_a_publishable_key_manages_nothing(authority: Authority) -> None:
    made = await authority.make(scopes=["vps:read"], key_type="publishable")
    public = await authority.acting(made)
    key_id = made.facts.key_id
    refusal = {"reason": "KEY_TYPE_MAY_NOT_MANAGE", "key_type": "publishable"}
    for attempt in (
        lambda: authority.make(by=public),
        lambda: authority.revoke(public, key_id),
        lambda: authority.rotate(public, key_id),
        lambda: authority.update(public, key_id, display_name="x"),
        lambda: authority.read_keys.get(public, key_id),
    ):
        with refused(**refusal):
            await attempt()


@pytest.mark.parametrize(
    ("own", "wanted", "exceeds"),
    [
        ({"scopes": ["vps:read"]}, {"scopes": ["vps:write"]}, "scopes"),
        ({"scopes": ["vps:read"]}, {"preset": "full"}, "scopes"),
        ({"scopes": ["vps:create"]}, {"scopes": ["vps:*"]}, "scopes"),
        ({"expire_time": START + DAY}, {"expire_time": START + 2 * DAY}, "expire_time"),
        (
            {"allowed_addresses": ["10.0.0.0/8"]},
            {"allowed_addresses": ["0.0.0.0/0"]},
            "allowed_addresses",
        ),
    ],
    ids=str,
)
async def test_a_key_makes_nothing_that_exceeds_it(
    authority: Authority, own: dict[str, Any], wanted: dict[str, Any], exceeds: str
) -> None:
    """Threat 13: a leaked narrow key would otherwise mint itself a broad one."""
    made = await authority.make(**own)
    maker = await authority.callers.identify(made.plaintext.reveal(), Call(address="10.0.0.1"))
    with refused("EXCEEDS_MAKER", exceeds=exceeds):
        await authority.make(by=maker, **wanted)


async def test_what_is_not_said_comes_from_the_maker_and_not_from_beyond_it(
    authority: Authority,
) -> None:
    made = await authority.make(
        scopes=["*"], expire_time=START + DAY, allowed_addresses=["10.0.0.0/8"]
    )
    maker = await authority.callers.identify(made.plaintext.reveal(), Call(address="10.0.0.1"))
    key = (await authority.make(by=maker)).facts.key
    assert key.expire_time == START + DAY
    assert key.allowed_addresses == ("10.0.0.0/8",)


async def test_a_key_that_is_being_revoked_makes_no_successor(authority: Authority) -> None:
    """Threat 13: read from the cache, the maker would pass although its revocation was
    committed first, and its creature would outlive it."""
    made = await authority.make(scopes=["*"])
    maker = await authority.acting(made)
    revoking = asyncio.ensure_future(authority.revoke(None, made.facts.key_id))
    minting = [asyncio.ensure_future(authority.make(by=maker)) for _ in range(3)]
    outcomes = await asyncio.gather(revoking, *minting, return_exceptions=True)
    assert not isinstance(outcomes[0], BaseException)
    assert [getattr(one, "reason", one) for one in outcomes[1:]] == ["CREDENTIAL_REJECTED"] * 3


async def test_what_a_key_made_before_its_revocation_is_there_whole(authority: Authority) -> None:
    made = await authority.make(scopes=["*"])
    maker = await authority.acting(made)
    minting = asyncio.ensure_future(authority.make(by=maker, scopes=["vps:read"]))
    revoking = asyncio.ensure_future(authority.revoke(None, made.facts.key_id))
    child, _ = await asyncio.gather(minting, revoking)
    assert (await authority.check(child, "vps:read")).reason is Reason.OK
    assert (await authority.check(made, "vps:read")).reason is Reason.KEY_REVOKED


@pytest.mark.parametrize("how", ["revoked", "disabled", "expired"])
async def test_a_maker_is_read_anew_and_not_believed(authority: Authority, how: str) -> None:
    """The caller was identified before it waited. Its credential may have been revoked since."""
    made = await authority.make(scopes=["*"], expire_time=START + DAY)
    maker = await authority.acting(made)
    if how == "revoked":
        await authority.revoke(None, made.facts.key_id)
    elif how == "disabled":
        await authority.update(None, made.facts.key_id, state=KeyState.DISABLED)
    else:
        authority.clock.advance(DAY)
    for attempt in (
        lambda: authority.make(by=maker),
        lambda: authority.revoke(maker, made.facts.key_id),
        lambda: authority.rotate(maker, made.facts.key_id),
        lambda: authority.update(maker, made.facts.key_id, display_name="x"),
    ):
        with refused("CREDENTIAL_REJECTED"):
            await attempt()


@pytest.mark.parametrize(
    "name",
    ["\u0645\u06cc\u200c\u062e\u0648\u0631\u0645", "क्\u200dष", "team \U0001f468\u200d\U0001f469"],
)
async def test_a_display_name_may_be_written_with_joiners(authority: Authority, name: str) -> None:
    """Persian, the languages of India and many emoji are written with them."""
    made = await authority.make(display_name=name)
    assert made.facts.key.display_name == name


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a\u200bb", "character 2 is U+200B (ZERO WIDTH SPACE)"),
        ("abc\u202e", "character 4 is U+202E (RIGHT-TO-LEFT OVERRIDE)"),
        ("\x1b[2J", "character 1 is U+001B (a control character)"),
        ("a\nb", "character 2 is U+000A"),
        ("a\u2028b", "character 2 is U+2028 (LINE SEPARATOR)"),
    ],
)
async def test_a_control_character_is_refused_by_its_name(
    authority: Authority, text: str, named: str
) -> None:
    with pytest.raises(InvalidInput, match=re.escape(named)):
        await authority.make(display_name=text)


async def test_a_name_of_joiners_alone_is_blank(authority: Authority) -> None:
    with refused("INVALID_FIELD", "display_name"):
        await authority.make(display_name="\u200d \u200c")
