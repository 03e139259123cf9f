"""QuantumSafe: secret and publishable keys, for live and test, and no scopes."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

import keyfence
from keyfence.results import KeyState, Reason
from support.clock import FrozenClock
from support.systems import Authority

NAME = "quantumsafe"
PASSWORD = "securepassword123"


@pytest.mark.parametrize(
    ("key_type", "environment", "prefix"),
    [
        ("secret", "live", "qs_sec_live_sk_"),
        ("secret", "test", "qs_sec_test_sk_"),
        ("publishable", "live", "qs_pub_live_pk_"),
        ("publishable", "test", "qs_pub_test_pk_"),
    ],
)
async def test_type_and_environment_are_in_the_key_and_in_its_record(
    authority: Authority, key_type: str, environment: str, prefix: str
) -> None:
    await authority.apply(NAME)
    made = await authority.operator.create_key(
        keyspace=NAME,
        account_id="usr_abc123",
        display_name="Production Backend",
        key_type=key_type,
        environment=environment,
    )
    assert re.fullmatch(prefix + "[0-9A-Za-z]{32}", made.api_key)
    assert made.key.display_prefix == made.api_key[: len(prefix) + 4]
    answer = await authority.operator.authenticate(made.api_key, keyspace=NAME)
    assert answer.principal is not None
    assert (answer.principal.key_type, answer.principal.environment) == (key_type, environment)


@pytest.mark.parametrize("wrong", [{"key_type": "private"}, {"environment": "staging"}], ids=str)
async def test_other_types_and_environments_are_refused(
    authority: Authority, wrong: dict[str, str]
) -> None:
    await authority.apply(NAME)
    with pytest.raises(keyfence.InvalidRequest) as caught:
        await authority.operator.create_key(keyspace=NAME, account_id="a", **wrong)  # type: ignore[arg-type]
    assert [violation.field for violation in caught.value.violations] == list(wrong)


async def test_a_key_of_which_nothing_is_said_is_the_least_that_there_is(
    authority: Authority,
) -> None:
    """The page requires type and environment, which its application sees to. What gets past
    it manages nothing, and costs nothing."""
    await authority.apply(NAME)
    made = await authority.operator.create_key(keyspace=NAME, account_id="a")
    assert (made.key.key_type, made.key.environment) == ("publishable", "test")


async def test_a_password_has_at_least_twelve_characters(authority: Authority) -> None:
    await authority.apply(NAME)
    async with authority.client() as anybody:
        with pytest.raises(keyfence.InvalidRequest) as caught:
            await anybody.register_account(NAME, "a@example.com", "elevenchars")
        assert [violation.field for violation in caught.value.violations] == ["password"]
        made = await anybody.register_account(NAME, "a@example.com", "twelve-chars")
    assert made.account.email == "a@example.com"


async def test_an_account_has_an_address_and_need_not_have_a_name(authority: Authority) -> None:
    """ "email: Yes", "password: Yes", "name: No"; the plan of a new one is "free"."""
    await authority.apply(NAME)
    async with authority.client() as anybody:
        for email, password in (("", PASSWORD), ("dev@example.com", "")):
            with pytest.raises(keyfence.InvalidRequest):
                await anybody.register_account(NAME, email, password)
        made = await anybody.register_account(NAME, "dev@example.com", PASSWORD)
    assert (made.account.display_name, made.account.plan) == ("", "free")


async def test_a_session_is_signed_with_eddsa_and_ends_after_a_day(
    authority: Authority, clock: FrozenClock
) -> None:
    """The page's token begins with "eyJhbGciOiJFZERTQSIs", and ends a day later."""
    await authority.apply(NAME)
    async with authority.client() as anybody:
        await anybody.register_account(NAME, "dev@example.com", PASSWORD)
        begun = await anybody.log_in(NAME, "dev@example.com", PASSWORD)
    assert begun.session_token.startswith("eyJhbGciOiJFZERTQSIs")
    assert begun.session.create_time == clock.now()
    assert begun.session.expire_time == clock.now() + timedelta(hours=24)

    async with authority.client(begun.session_token) as dashboard:
        clock.advance(timedelta(hours=24) - timedelta(microseconds=1))
        assert (await dashboard.get_account()).email == "dev@example.com"
        clock.advance(timedelta(microseconds=1))
        with pytest.raises(keyfence.Unauthenticated):
            await dashboard.get_account()


async def test_a_secret_key_makes_lists_and_revokes_the_keys_of_its_account(
    authority: Authority,
) -> None:
    await authority.apply(NAME)
    secret = await authority.operator.create_key(
        keyspace=NAME, account_id="usr_1", key_type="secret", environment="live"
    )
    strangers = await authority.operator.create_key(keyspace=NAME, account_id="usr_2")
    async with authority.client(secret.api_key) as holder:
        made = await holder.create_key(
            display_name="Frontend Scanner", key_type="publishable", environment="live"
        )
        assert made.key.account_id == "usr_1"
        assert made.key.created_by_key_id == secret.key.key_id
        assert await authority.reason(made.api_key, NAME) is Reason.OK

        listed = {key.key_id async for key in holder.list_keys()}
        assert listed == {secret.key.key_id, made.key.key_id}

        await holder.revoke_key(made.key.key_id)
        assert await authority.reason(made.api_key, NAME) is Reason.KEY_REVOKED

        with pytest.raises(keyfence.NotFound):
            await holder.get_key(strangers.key.key_id)
        with pytest.raises(keyfence.NotFound):
            await holder.revoke_key(strangers.key.key_id)
    assert await authority.reason(strangers.api_key, NAME) is Reason.OK


async def test_a_publishable_key_manages_no_keys(authority: Authority) -> None:
    await authority.apply(NAME)
    publishable = await authority.operator.create_key(
        keyspace=NAME, account_id="usr_1", key_type="publishable", environment="live"
    )
    async with authority.client(publishable.api_key) as holder:
        for attempt in (
            holder.create_key(),
            holder.get_key(publishable.key.key_id),
            holder.update_key(publishable.key.key_id, display_name="mine"),
            holder.rotate_key(publishable.key.key_id),
            holder.revoke_key(publishable.key.key_id),
        ):
            with pytest.raises(keyfence.PermissionDenied) as caught:
                await attempt
            assert caught.value.reason == "KEY_TYPE_MAY_NOT_MANAGE"
        with pytest.raises(keyfence.PermissionDenied):
            _ = [key async for key in holder.list_keys()]
        assert (await holder.who_am_i()).principal.key_type == "publishable"


async def test_a_deleted_secret_key_can_make_nothing_any_more(authority: Authority) -> None:
    await authority.apply(NAME)
    secret = await authority.operator.create_key(
        keyspace=NAME, account_id="usr_1", key_type="secret", environment="live"
    )
    async with authority.client(secret.api_key) as holder:
        await holder.who_am_i()
        deleted = await holder.revoke_key(secret.key.key_id)
        assert deleted.key.state is KeyState.REVOKED
        with pytest.raises(keyfence.Unauthenticated):
            await holder.create_key()


async def test_there_is_no_scope_to_ask_for(authority: Authority) -> None:
    await authority.apply(NAME)
    made = await authority.operator.create_key(keyspace=NAME, account_id="a", key_type="secret")
    assert made.key.effective_scopes == ()
    with pytest.raises(keyfence.UnknownScope):
        await authority.operator.check_scope(made.api_key, "scan:read", keyspace=NAME)
