"""Sitequest: six scopes without a hierarchy, and two presets."""

from __future__ import annotations

import pytest

from keyfence.results import Reason
from support.systems import Authority, declared_message

NAME = "sitequest"
SCOPES = (
    "domains:manage",
    "domains:read",
    "domains:write",
    "vps:manage",
    "vps:read",
    "vps:write",
)


@pytest.mark.parametrize("scope", SCOPES)
async def test_no_scope_brings_another(authority: Authority, scope: str) -> None:
    await authority.apply(NAME)
    made = await authority.operator.create_key(keyspace=NAME, account_id="a", scopes=[scope])
    await authority.require_exactly(made.api_key, NAME, (scope,), of=SCOPES)


async def test_full_access_is_all_scopes(authority: Authority) -> None:
    await authority.apply(NAME)
    made = await authority.operator.create_key(keyspace=NAME, account_id="a", preset="full-access")
    assert made.key.preset == "full-access"
    await authority.require_exactly(made.api_key, NAME, SCOPES, of=SCOPES)
    everything = await authority.operator.check_scope(made.api_key, *SCOPES, keyspace=NAME)
    assert everything


async def test_full_access_covers_what_is_registered_later(authority: Authority) -> None:
    await authority.apply(NAME)
    full = await authority.operator.create_key(keyspace=NAME, account_id="a", preset="full-access")
    read = await authority.operator.create_key(keyspace=NAME, account_id="a", preset="read-only")
    keyspace = declared_message(NAME)
    keyspace.scopes.add(name="dns:read")
    answer = await authority.operator.apply_keyspace(keyspace)
    assert [change.key_id for change in answer.diff.affected_keys] == [full.key.key_id]
    assert await authority.operator.check_scope(full.api_key, "dns:read", keyspace=NAME)
    assert not await authority.operator.check_scope(read.api_key, "dns:read", keyspace=NAME)


async def test_read_only_is_reading_servers_and_domains(authority: Authority) -> None:
    await authority.apply(NAME)
    made = await authority.operator.create_key(keyspace=NAME, account_id="a", preset="read-only")
    await authority.require_exactly(made.api_key, NAME, ("domains:read", "vps:read"), of=SCOPES)


async def test_custom_is_any_choice_of_scopes_and_goes_with_a_preset(authority: Authority) -> None:
    await authority.apply(NAME)
    custom = await authority.operator.create_key(
        keyspace=NAME, account_id="a", scopes=["vps:manage", "domains:write"]
    )
    await authority.require_exactly(
        custom.api_key, NAME, ("domains:write", "vps:manage"), of=SCOPES
    )
    both = await authority.operator.create_key(
        keyspace=NAME, account_id="a", preset="read-only", scopes=["vps:write"]
    )
    await authority.require_exactly(
        both.api_key, NAME, ("domains:read", "vps:read", "vps:write"), of=SCOPES
    )


async def test_one_missing_scope_of_several_denies_and_is_named(authority: Authority) -> None:
    await authority.apply(NAME)
    made = await authority.operator.create_key(keyspace=NAME, account_id="a", preset="read-only")
    answer = await authority.operator.check_scope(
        made.api_key, "vps:read", "domains:write", "vps:write", keyspace=NAME
    )
    assert answer.reason is Reason.SCOPE_MISSING
    assert answer.missing_scopes == ("domains:write", "vps:write")
