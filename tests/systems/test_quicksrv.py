"""quicksrv: `vps:create` implies `vps:write`, which implies `vps:read`."""

from __future__ import annotations

import pytest

import keyfence
from keyfence.results import Reason
from support.systems import Authority

NAME = "quicksrv"
SCOPES = ("vps:read", "vps:write", "vps:create")


@pytest.mark.parametrize(
    ("granted", "held"),
    [
        ((), ()),
        (("vps:read",), ("vps:read",)),
        (("vps:write",), ("vps:read", "vps:write")),
        (("vps:create",), ("vps:create", "vps:read", "vps:write")),
        (("vps:create", "vps:read"), ("vps:create", "vps:read", "vps:write")),
        (("vps:*",), ("vps:create", "vps:read", "vps:write")),
    ],
)
async def test_scopes_are_hierarchical(
    authority: Authority, granted: tuple[str, ...], held: tuple[str, ...]
) -> None:
    await authority.apply(NAME)
    made = await authority.operator.create_key(keyspace=NAME, account_id="a", scopes=granted)
    assert made.key.effective_scopes == held
    await authority.require_exactly(made.api_key, NAME, held, of=SCOPES)


async def test_a_denial_names_the_missing_scope_and_what_would_do(authority: Authority) -> None:
    await authority.apply(NAME)
    made = await authority.operator.create_key(keyspace=NAME, account_id="a", scopes=["vps:read"])
    answer = await authority.operator.check_scope(
        made.api_key, "vps:read", "vps:write", keyspace=NAME, explain=True
    )
    assert not answer
    assert answer.reason is Reason.SCOPE_MISSING
    assert answer.missing_scopes == ("vps:write",)
    assert answer.explanation is not None
    assert answer.explanation.sufficient_grants == ("vps:write",)


async def test_whoami_shows_the_effective_scopes(authority: Authority) -> None:
    await authority.apply(NAME)
    made = await authority.operator.create_key(
        keyspace=NAME, account_id="acct_1", scopes=["vps:create"]
    )
    async with authority.client(made.api_key) as holder:
        principal = (await holder.who_am_i()).principal
    assert principal.granted_scopes == ("vps:create",)
    assert principal.effective_scopes == ("vps:create", "vps:read", "vps:write")
    assert principal.environment == "live"


async def test_an_allow_explains_the_way_from_the_grant_to_the_scope(authority: Authority) -> None:
    await authority.apply(NAME)
    made = await authority.operator.create_key(keyspace=NAME, account_id="a", scopes=["vps:create"])
    answer = await authority.operator.check_scope(
        made.api_key, "vps:read", keyspace=NAME, explain=True
    )
    assert answer
    assert answer.explanation is not None
    (held,) = answer.explanation.held
    assert held.path == ("vps:create", "vps:write", "vps:read")


async def test_no_key_has_a_scope_that_the_page_does_not_have(authority: Authority) -> None:
    await authority.apply(NAME)
    made = await authority.operator.create_key(keyspace=NAME, account_id="a", scopes=["*"])
    with pytest.raises(keyfence.UnknownScope) as asked:
        await authority.operator.check_scope(made.api_key, "vps:reed", keyspace=NAME)
    assert asked.value.nearest == "vps:read"
    with pytest.raises(keyfence.UnknownScope):
        await authority.operator.create_key(keyspace=NAME, account_id="a", scopes=["vps:creat"])


async def test_keys_are_made_in_the_panel_and_not_by_keys(authority: Authority) -> None:
    await authority.apply(NAME)
    made = await authority.operator.create_key(keyspace=NAME, account_id="a", scopes=["*"])
    async with authority.client(made.api_key) as holder:
        with pytest.raises(keyfence.PermissionDenied):
            await holder.create_key()
        with pytest.raises(keyfence.PermissionDenied):
            await holder.revoke_key(made.key.key_id)
    assert await authority.reason(made.api_key, NAME) is Reason.OK
