"""What holds for the keys of each of the five systems, whatever its page says besides."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

import keyfence
from keyfence.results import KeyState, Reason
from support.clock import FrozenClock
from support.systems import SYSTEMS, Authority

pytestmark = pytest.mark.parametrize("name", SYSTEMS)

FORMS = {
    # quicksrv: "Keys look like qsk_live_ followed by a random string", 24 in its examples.
    "quicksrv": r"qsk_live_[0-9A-Za-z]{24}",
    # Sitequest: "the prefix sq_live_ followed by a 64-character hex string".
    "sitequest": r"sq_live_[0-9a-f]{64}",
    # QuantumSafe: "qs_pub_live_pk_xyz9...", with "test or live".
    "quantumsafe": r"qs_pub_test_pk_[0-9A-Za-z]{32}",
    # Supascale: "supascale_xxxxxxxxxxxxxxxxxxxxxxxxxxxx".
    "supascale": r"supascale_[0-9A-Za-z]{28}",
    # Xquik: "the complete API key including the xq_ prefix".
    "xquik": r"xq_[0-9A-Za-z]{32}",
}

SHOWN = {
    "quicksrv": len("qsk_live_a1b2c3"),
    "sitequest": len("sq_live_") + 6,
    "quantumsafe": len("qs_pub_live_pk_xyz9"),
    "supascale": len("supascale_") + 6,
    "xquik": len("xq_a1b2") + 1,  # "First 8 characters", of which the page's example has 7
}

# A grant that each system knows; the pages of two have no scopes.
GRANTS = {
    "quicksrv": ("vps:write",),
    "sitequest": ("domains:write", "vps:read"),
    "quantumsafe": (),
    "supascale": ("backups:read", "projects:write"),
    "xquik": (),
}


async def test_keys_look_as_the_page_says_and_no_two_are_alike(
    name: str, authority: Authority
) -> None:
    await authority.apply(name)
    made = [await authority.operator.create_key(keyspace=name, account_id="a") for _ in range(5)]
    plaintexts = {one.api_key for one in made}
    assert len(plaintexts) == 5
    assert all(re.fullmatch(FORMS[name], text) for text in plaintexts)
    drawn = "".join(text[-24:] for text in plaintexts)
    kinds = [str.isdigit, str.islower, str.isupper]
    assert [any(map(kind, drawn)) for kind in kinds] == [True, True, name != "sitequest"]


async def test_a_listing_shows_the_start_of_the_key_and_no_more(
    name: str, authority: Authority
) -> None:
    await authority.apply(name)
    made = await authority.operator.create_key(keyspace=name, account_id="a")
    (listed,) = [key async for key in authority.operator.list_keys(keyspace=name)]
    assert listed.display_prefix == made.api_key[: SHOWN[name]]


async def test_a_key_without_a_name_is_called_default(name: str, authority: Authority) -> None:
    await authority.apply(name)
    unnamed = await authority.operator.create_key(keyspace=name, account_id="a")
    named = await authority.operator.create_key(
        keyspace=name, account_id="a", display_name="Production Backend"
    )
    assert unnamed.key.display_name == "Default"
    assert named.key.display_name == "Production Backend"


async def test_a_revoked_key_is_refused_from_then_on_and_for_good(
    name: str, authority: Authority
) -> None:
    await authority.apply(name)
    made = await authority.operator.create_key(keyspace=name, account_id="a")
    bystander = await authority.operator.create_key(keyspace=name, account_id="a")
    assert await authority.reason(made.api_key, name) is Reason.OK

    await authority.operator.revoke_key(made.key.key_id)

    assert await authority.reason(made.api_key, name) is Reason.KEY_REVOKED
    assert await authority.reason(bystander.api_key, name) is Reason.OK
    again = await authority.operator.revoke_key(made.key.key_id)
    assert again.key.state is KeyState.REVOKED
    with pytest.raises(keyfence.FailedPrecondition):
        await authority.operator.update_key(made.key.key_id, state=KeyState.ACTIVE)


async def test_a_key_ends_at_its_expiry_to_the_moment(
    name: str, authority: Authority, clock: FrozenClock
) -> None:
    await authority.apply(name)
    end = clock.now() + timedelta(days=30)
    made = await authority.operator.create_key(keyspace=name, account_id="a", expire_time=end)
    assert made.key.expire_time == end

    clock.set(end - timedelta(microseconds=1))
    assert await authority.reason(made.api_key, name) is Reason.OK
    clock.set(end)
    assert await authority.reason(made.api_key, name) is Reason.KEY_EXPIRED


async def test_a_key_is_rotated_with_or_without_an_overlap(
    name: str, authority: Authority, clock: FrozenClock
) -> None:
    """The successor has the same name and place; the old key ends at once, or with the
    overlap."""
    await authority.apply(name)
    old = await authority.operator.create_key(
        keyspace=name, account_id="a", display_name="CI/CD Pipeline"
    )
    middle = await authority.operator.rotate_key(old.key.key_id)
    assert await authority.reason(old.api_key, name) is Reason.KEY_REVOKED
    assert await authority.reason(middle.api_key, name) is Reason.OK

    last = await authority.operator.rotate_key(middle.key.key_id, overlap=timedelta(hours=1))
    assert (last.key.display_name, last.key.account_id) == ("CI/CD Pipeline", "a")
    assert await authority.reason(middle.api_key, name) is Reason.OK
    assert await authority.reason(last.api_key, name) is Reason.OK
    clock.advance(timedelta(hours=1))
    assert await authority.reason(middle.api_key, name) is Reason.KEY_EXPIRED
    assert await authority.reason(last.api_key, name) is Reason.OK


async def test_the_record_has_name_times_and_permissions(
    name: str, authority: Authority, clock: FrozenClock
) -> None:
    """ "Name, Creation date, Expiration date (if set), Permissions summary": of each key."""
    await authority.apply(name)
    created, end = clock.now(), clock.now() + timedelta(days=30)
    ending = await authority.operator.create_key(
        keyspace=name, account_id="a", display_name="CI", scopes=GRANTS[name], expire_time=end
    )
    clock.advance(timedelta(minutes=5))
    lasting = await authority.operator.create_key(
        keyspace=name, account_id="a", display_name="Backup"
    )

    listed = {key.key_id: key async for key in authority.operator.list_keys(keyspace=name)}

    assert set(listed) == {ending.key.key_id, lasting.key.key_id}
    first, second = listed[ending.key.key_id], listed[lasting.key.key_id]
    assert (first.display_name, second.display_name) == ("CI", "Backup")
    assert (first.create_time, second.create_time) == (created, created + timedelta(minutes=5))
    assert (first.expire_time, second.expire_time) == (end, None)
    assert (first.granted_scopes, second.granted_scopes) == (GRANTS[name], ())


async def test_a_key_without_an_expiry_does_not_end_by_itself(
    name: str, authority: Authority, clock: FrozenClock
) -> None:
    await authority.apply(name)
    made = await authority.operator.create_key(keyspace=name, account_id="a")
    assert made.key.expire_time is None
    clock.advance(timedelta(days=3650))
    assert await authority.reason(made.api_key, name) is Reason.OK


async def test_a_key_can_ask_about_itself(name: str, authority: Authority) -> None:
    await authority.apply(name)
    made = await authority.operator.create_key(
        keyspace=name, account_id="acct_7", display_name="CI/CD Pipeline"
    )
    async with authority.client(made.api_key) as holder:
        identity = await holder.who_am_i()
    assert identity.principal.key_id == made.key.key_id
    assert identity.principal.account_id == "acct_7"
    assert identity.principal.keyspace == name
    assert identity.principal.display_name == "CI/CD Pipeline"
    assert identity.principal.display_prefix == made.key.display_prefix


async def test_keys_manage_keys_where_the_page_says_so(name: str, authority: Authority) -> None:
    """On the pages of QuantumSafe and Xquik keys make keys; on the others people do, in a
    panel, a dashboard or under Settings."""
    await authority.apply(name)
    made = await authority.operator.create_key(keyspace=name, account_id="a", key_type="secret")
    async with authority.client(made.api_key) as holder:
        if name in {"quantumsafe", "xquik"}:
            assert (await holder.create_key()).key.account_id == "a"
        else:
            for attempt in (holder.create_key(), holder.revoke_key(made.key.key_id)):
                with pytest.raises(keyfence.PermissionDenied) as caught:
                    await attempt
                assert caught.value.reason == "KEY_TYPE_MAY_NOT_MANAGE"
    assert await authority.reason(made.api_key, name) is Reason.OK


async def test_a_malformed_key_is_told_from_an_unknown_one(name: str, authority: Authority) -> None:
    await authority.apply(name)
    made = await authority.operator.create_key(keyspace=name, account_id="a")
    last = "0" if made.api_key[-1] != "0" else "1"
    assert await authority.reason("", name) is Reason.CREDENTIAL_MISSING
    assert await authority.reason(made.api_key[:-1], name) is Reason.CREDENTIAL_MALFORMED
    assert await authority.reason(made.api_key + "0", name) is Reason.CREDENTIAL_MALFORMED
    assert await authority.reason(made.api_key.upper(), name) is Reason.CREDENTIAL_MALFORMED
    assert await authority.reason(made.api_key[:-1] + last, name) is Reason.KEY_UNKNOWN


async def test_keys_of_one_system_are_nothing_in_another(name: str, authority: Authority) -> None:
    for each in SYSTEMS:
        await authority.apply(each)
    made = await authority.operator.create_key(keyspace=name, account_id="a")
    for other in SYSTEMS:
        reason = await authority.reason(made.api_key, other)
        assert (reason is Reason.OK) == (other == name)
    assert await authority.reason(made.api_key, None) is Reason.OK


async def test_the_plaintext_is_shown_once_and_kept_nowhere(
    name: str, authority: Authority
) -> None:
    """If the guard were missing, some file, log line, answer or error would hold a body."""
    await authority.apply(name)
    operator = authority.operator
    created = await operator.create_key(keyspace=name, account_id="a", request_id="once")
    rotated = await operator.rotate_key(created.key.key_id, overlap=timedelta(hours=1))
    refused = await operator.create_key(keyspace=name, account_id="a")
    await operator.revoke_key(refused.key.key_id, comment="lost")
    plaintexts = [one.api_key for one in (created, rotated, refused)]

    said: list[object] = [created.key, rotated.key, rotated.previous_key]
    for plaintext in plaintexts:
        said.append(await operator.authenticate(plaintext, keyspace=name))
        async with authority.client(plaintext) as holder:
            said.append(await _answer_or_error(holder))
    said += [key async for key in operator.list_keys(keyspace=name)]
    said.append(await operator.get_key(created.key.key_id))
    with pytest.raises(keyfence.RequestAlreadyDone) as caught:
        await operator.create_key(keyspace=name, account_id="a", request_id="once")
    said += [str(caught.value), caught.value.metadata]

    kept = await authority.stop_and_read_everything()
    assert created.key.key_id.encode() in kept, "the search would find nothing anyway"
    for plaintext in plaintexts:
        shown = SHOWN[name]
        assert plaintext[shown:] not in repr(said)
        assert plaintext.encode() not in kept
        assert plaintext[shown:].encode() not in kept


async def _answer_or_error(holder: keyfence.AsyncClient) -> object:
    try:
        return await holder.who_am_i()
    except keyfence.Unauthenticated as error:
        return str(error)
