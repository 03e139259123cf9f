"""Rate limits: each check counts once, only if it passes, and against all that it is under."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from application.authority import ACME, OTHER, Authority, refused
from keyfence_server.adapters.rate_limits.memory import MemoryCounter
from keyfence_server.application.checks import CountedHere
from keyfence_server.application.rate_limits import RateLimits, Window
from keyfence_server.domain.decisions import Verdict
from keyfence_server.domain.declarations import LimitsDeclaration
from keyfence_server.domain.limits import Limit, Rate, RateLimitStatus, Subject
from keyfence_server.domain.reasons import Reason
from support.clock import FrozenClock

MINUTE = timedelta(minutes=1)
THREE = Rate(3, MINUTE)


async def limited(
    authority: Authority, per_key: Rate | None = THREE, per_account: Rate | None = None
) -> None:
    await authority.declare(
        ACME, limits=LimitsDeclaration(per_key=per_key, per_account=per_account)
    )


def status_of(verdict: Verdict) -> RateLimitStatus:
    assert verdict.rate_limit is not None
    return verdict.rate_limit


async def test_as_many_checks_pass_as_are_allowed_and_the_next_says_when(
    authority: Authority,
) -> None:
    """And it is told apart from a key that is not good: it is known, and may come back."""
    await limited(authority)
    key = await authority.make()
    began = authority.clock.timestamp()
    for left in (2, 1, 0):
        verdict = await authority.check(key)
        assert (verdict.reason, status_of(verdict).remaining) == (Reason.OK, left)
        assert status_of(verdict).retry_after is None
        authority.clock.advance(timedelta(seconds=10))
    stopped = await authority.check(key)
    assert stopped.reason is Reason.RATE_LIMITED
    assert stopped.facts is not None
    assert status_of(stopped).remaining == 0
    assert status_of(stopped).retry_after == 30
    assert began + 60 <= status_of(stopped).reset_at < began + 61
    authority.clock.advance(timedelta(seconds=30))
    assert (await authority.check(key)).reason is Reason.OK


async def test_both_kinds_of_checks_count_together(authority: Authority) -> None:
    await limited(authority)
    key = await authority.make(scopes=["vps:read"])
    assert (await authority.check(key)).reason is Reason.OK
    assert (await authority.check(key, "vps:read")).reason is Reason.OK
    assert status_of(await authority.check(key)).remaining == 0
    assert (await authority.check(key, "vps:read")).reason is Reason.RATE_LIMITED


async def test_only_what_passes_counts(authority: Authority) -> None:
    """Whatever a check was denied for, it uses up nothing; so does one that was stopped."""
    await limited(authority)
    key = await authority.make(scopes=["vps:read"], allowed_addresses=["192.0.2.1"])
    here: dict[str, Any] = {"client_address": "192.0.2.1"}
    for _ in range(5):
        assert (await authority.check(key, client_address="192.0.2.2")).reason is (
            Reason.ADDRESS_NOT_ALLOWED
        )
        assert (await authority.check(key, "vps:write", **here)).reason is Reason.SCOPE_MISSING
    for _ in range(3):
        assert (await authority.check(key, **here)).reason is Reason.OK
    for _ in range(5):
        assert (await authority.check(key, **here)).reason is Reason.RATE_LIMITED
    authority.clock.advance(MINUTE)
    assert status_of(await authority.check(key, **here)).remaining == 2


async def test_a_check_that_lacks_a_scope_tells_the_state_of_the_limit_too(
    authority: Authority,
) -> None:
    await limited(authority)
    key = await authority.make(scopes=["vps:read"])
    await authority.check(key)
    verdict = await authority.check(key, "vps:write")
    assert (verdict.reason, status_of(verdict).remaining) == (Reason.SCOPE_MISSING, 2)
    await authority.revoke(None, key.facts.key_id)
    revoked = await authority.check(key)
    assert (revoked.reason, revoked.rate_limit) == (Reason.KEY_REVOKED, None)


async def test_a_missing_scope_is_said_before_a_used_up_limit(authority: Authority) -> None:
    await limited(authority)
    key = await authority.make(scopes=["vps:read"])
    for _ in range(3):
        await authority.check(key)
    verdict = await authority.check(key, "vps:write")
    assert (verdict.reason, status_of(verdict).remaining) == (Reason.SCOPE_MISSING, 0)


async def test_a_cost_counts_for_as_much(authority: Authority) -> None:
    await limited(authority)
    key = await authority.make()
    assert status_of(await authority.check(key, cost=2)).remaining == 1
    stopped = await authority.check(key, cost=2)
    assert (stopped.reason, status_of(stopped).remaining) == (Reason.RATE_LIMITED, 1)
    assert status_of(stopped).retry_after == 60
    assert (await authority.check(key, cost=1)).reason is Reason.OK


async def test_a_cost_of_nothing_counts_nothing_and_is_never_stopped(authority: Authority) -> None:
    await limited(authority)
    key = await authority.make()
    assert status_of(await authority.check(key, cost=0)).remaining == 3
    for _ in range(3):
        await authority.check(key)
    for _ in range(3):
        verdict = await authority.check(key, cost=0)
        assert (verdict.reason, status_of(verdict).remaining) == (Reason.OK, 0)


async def test_a_cost_above_the_limit_never_passes_and_is_not_told_to_come_back(
    authority: Authority,
) -> None:
    await limited(authority)
    verdict = await authority.check(await authority.make(), cost=4)
    assert verdict.reason is Reason.RATE_LIMITED
    assert status_of(verdict).retry_after is None
    assert status_of(verdict).remaining == 3


@pytest.mark.parametrize("cost", [-1, 1_000_001, 2**31 - 1])
async def test_a_cost_that_is_none_is_refused_whether_there_is_a_limit_or_not(
    authority: Authority, cost: int
) -> None:
    key = await authority.make()
    with refused("INVALID_FIELD", "cost"):
        await authority.check(key, cost=cost)
    with refused("INVALID_FIELD", "cost"):
        await authority.check(key, "vps:read", cost=cost)


async def test_all_keys_of_an_account_share_its_limit(authority: Authority) -> None:
    await limited(authority, per_key=None, per_account=THREE)
    keys = [await authority.make() for _ in range(2)]
    stranger = await authority.make(account_id="bob")
    await authority.declare(OTHER, limits=LimitsDeclaration(per_account=THREE))
    namesake = await authority.make(keyspace="other")
    for key in (*keys, keys[0]):
        assert (await authority.check(key)).reason is Reason.OK
    for key in keys:
        verdict = await authority.check(key)
        assert verdict.reason is Reason.RATE_LIMITED
        assert status_of(verdict).limit.subject is Subject.ACCOUNT
    for other in (stranger, namesake):
        assert (await authority.check(other)).reason is Reason.OK


async def test_the_limit_that_leaves_the_least_is_the_one_that_is_told(
    authority: Authority,
) -> None:
    await limited(authority, per_account=Rate(4, timedelta(hours=1)))
    first, second = await authority.make(), await authority.make()
    assert status_of(await authority.check(first)).limit.subject is Subject.KEY
    assert status_of(await authority.check(first)).remaining == 1
    verdict = await authority.check(second)
    assert (status_of(verdict).limit.subject, status_of(verdict).remaining) == (Subject.ACCOUNT, 1)


async def test_what_the_account_stops_uses_up_nothing_of_the_key(authority: Authority) -> None:
    await limited(authority, per_account=Rate(1, timedelta(hours=1)))
    key = await authority.make()
    await authority.check(key)
    for _ in range(5):
        assert (await authority.check(key)).reason is Reason.RATE_LIMITED
    await limited(authority)
    assert status_of(await authority.check(key)).remaining == 1


async def test_a_delegated_key_spends_the_allowance_of_those_above_it(
    authority: Authority,
) -> None:
    """Otherwise a limited key would have as many times its limit as it makes keys."""
    await limited(authority)
    parent = await authority.make(scopes=["vps:read"])
    children = [
        await authority.make(scopes=["vps:read"], parent_key_id=parent.facts.key_id)
        for _ in range(3)
    ]
    for child in children:
        assert (await authority.check(child)).reason is Reason.OK
    for key in (*children, parent):
        assert (await authority.check(key)).reason is Reason.RATE_LIMITED


async def test_a_key_can_have_a_limit_of_its_own(authority: Authority) -> None:
    await limited(authority)
    wide = await authority.make(rate_limit=Rate(100, MINUTE))
    narrow = await authority.make(rate_limit=Rate(1, MINUTE))
    assert status_of(await authority.check(wide)).remaining == 99
    await authority.check(narrow)
    assert (await authority.check(narrow)).reason is Reason.RATE_LIMITED
    assert (await authority.stored(wide.facts.key_id)).rate_limit == Rate(100, MINUTE)


async def test_a_changed_limit_holds_at_once_and_what_is_used_stays_used(
    authority: Authority,
) -> None:
    await limited(authority)
    key = await authority.make()
    await authority.check(key)
    await authority.update(None, key.facts.key_id, rate_limit=Rate(10, MINUTE))
    assert status_of(await authority.check(key)).remaining == 8
    await authority.update(None, key.facts.key_id, rate_limit=None)
    assert status_of(await authority.check(key)).remaining == 0
    await limited(authority, per_key=None)
    assert (await authority.check(key)).rate_limit is None


async def test_a_successor_keeps_the_limit(authority: Authority) -> None:
    key = await authority.make(rate_limit=THREE)
    rotated = await authority.rotate(None, key.facts.key_id)
    assert rotated.successor.facts.key.rate_limit == THREE


async def test_a_rotation_does_not_make_the_limit_whole(authority: Authority) -> None:
    """Else a key that manages keys would have no limit: it could rotate itself before each
    request. While both of them live, they have one limit."""
    await limited(authority)
    key = await authority.make()
    passed = 0
    for _ in range(3):
        for _ in range(2):
            passed += (await authority.check(key)).reason is Reason.OK
        before, caller = key, await authority.acting(key)
        rotated = await authority.rotate(caller, key.facts.key_id, overlap=timedelta(seconds=50))
        key = rotated.successor
        for one in (before, key):
            passed += (await authority.check(one)).reason is Reason.OK
    assert passed == 3
    authority.clock.advance(MINUTE)
    assert status_of(await authority.check(key)).remaining == 2


async def test_a_delegated_key_counts_with_the_line_of_its_parent(authority: Authority) -> None:
    await limited(authority)
    parent = await authority.make()
    await authority.check(parent)
    successor = (
        await authority.rotate(None, parent.facts.key_id, overlap=timedelta(hours=1))
    ).successor
    child = await authority.make(parent_key_id=successor.facts.key_id)
    assert status_of(await authority.check(child)).remaining == 1
    assert status_of(await authority.check(parent)).remaining == 0
    assert (await authority.check(child)).reason is Reason.RATE_LIMITED


@pytest.mark.parametrize(
    "rate",
    [
        Rate(0, MINUTE),
        Rate(-1, MINUTE),
        Rate(10**9 + 1, MINUTE),
        Rate(1, timedelta(0)),
        Rate(1, timedelta(seconds=-5)),
        Rate(1, timedelta(seconds=1.5)),
        Rate(1, timedelta(days=32)),
    ],
)
async def test_a_limit_that_is_none_is_refused(authority: Authority, rate: Rate) -> None:
    with refused("INVALID_FIELD", "rate_limit"):
        await authority.make(rate_limit=rate)
    key = await authority.make()
    with refused("INVALID_FIELD", "rate_limit"):
        await authority.update(None, key.facts.key_id, rate_limit=rate)
    with refused("INVALID_KEYSPACE", "limits.per_account"):
        await limited(authority, per_key=None, per_account=rate)


async def test_operator_credentials_have_no_limit(authority: Authority) -> None:
    with refused("INVALID_FIELD", "rate_limit"):
        await authority.operator("acme", rate_limit=THREE)


# --- no caller makes a key that is less limited than itself ---------------------------


@pytest.mark.parametrize(
    "beyond",
    [Rate(4, MINUTE), Rate(3, timedelta(seconds=59)), Rate(1, timedelta(seconds=10))],
)
async def test_a_key_makes_none_that_is_less_limited(authority: Authority, beyond: Rate) -> None:
    maker = await authority.acting(await authority.make(rate_limit=THREE, scopes=["*"]))
    with refused("EXCEEDS_MAKER", exceeds="rate_limit"):
        await authority.make(maker, scopes=["vps:read"], rate_limit=beyond)
    sister = await authority.make(maker, scopes=["vps:read"], rate_limit=Rate(1, MINUTE))
    with refused("EXCEEDS_MAKER", exceeds="rate_limit"):
        await authority.update(maker, sister.facts.key_id, rate_limit=beyond)
    with refused("EXCEEDS_MAKER", exceeds="rate_limit"):
        await authority.update(maker, sister.facts.key_id, rate_limit=None)


async def test_a_key_does_not_lift_its_own_limit(authority: Authority) -> None:
    made = await authority.make(rate_limit=THREE, scopes=["*"])
    maker = await authority.acting(made)
    for lifted in (None, Rate(1_000, MINUTE)):
        with refused("EXCEEDS_MAKER", exceeds="rate_limit"):
            await authority.update(maker, made.facts.key_id, rate_limit=lifted)
    await authority.update(maker, made.facts.key_id, rate_limit=Rate(1, MINUTE))


async def test_where_a_maker_asks_for_no_limit_its_own_holds(authority: Authority) -> None:
    await limited(authority, per_key=Rate(10, MINUTE))
    strict = await authority.acting(await authority.make(rate_limit=THREE, scopes=["*"]))
    assert (await authority.make(strict, scopes=["vps:read"])).facts.key.rate_limit == THREE
    lax = await authority.acting(await authority.make(rate_limit=Rate(99, MINUTE), scopes=["*"]))
    made = await authority.make(lax, scopes=["vps:read"])
    assert made.facts.key.rate_limit is None
    assert [limit.rate for limit in made.facts.limits] == [Rate(10, MINUTE)]


# --- keys without limits --------------------------------------------------------------


class Forbidden:
    """A counter that must not be asked."""

    async def take(self, limits: Sequence[Limit], cost: int) -> tuple[int | None, list[Window]]:
        raise AssertionError("asked without need")

    async def close(self) -> None:
        pass


async def test_keys_without_a_limit_never_ask_the_counter(authority: Authority) -> None:
    forbidden = RateLimits(authority.clock, Forbidden(), Forbidden(), is_alone=False)
    authority.checks._counting = CountedHere(forbidden)
    key = await authority.make(scopes=["vps:read"])
    for verdict in (
        await authority.check(key),
        await authority.check(key, "vps:read"),
        await authority.check(key, "vps:write"),
        await authority.check(key, cost=0),
    ):
        assert verdict.rate_limit is None


# --- against a model ------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.integers(0, 30)), max_size=60
)


@given(per_key=st.integers(1, 6), per_account=st.integers(1, 8), steps=STEPS)
def test_any_run_of_checks_counts_as_the_plainest_model_does(
    per_key: int, per_account: int, steps: list[tuple[str, int, int]]
) -> None:
    """Every check counts once or not at all, for its cost, against every one of its limits."""
    clock = FrozenClock()
    limits = RateLimits(clock, MemoryCounter(clock), is_alone=True)
    rates = {"key": Rate(per_key, MINUTE), "account": Rate(per_account, 2 * MINUTE)}
    used: dict[str, int] = {}
    ends: dict[str, float] = {}

    async def play() -> None:
        for name, cost, wait in steps:
            now = clock.advance(timedelta(seconds=wait)).timestamp()
            under = [
                Limit(Subject.KEY, name, rates["key"]),
                Limit(Subject.ACCOUNT, "account", rates["account"]),
            ]
            for limit in under:
                if ends.get(limit.name, 0) <= now:
                    used[limit.name] = 0
            fits = all(used[one.name] + cost <= one.rate.requests for one in under)
            passes, status = await limits.take(under, cost)
            assert passes == (fits or cost == 0)
            if fits and cost:
                for limit in under:
                    if not used[limit.name]:
                        ends[limit.name] = now + limit.rate.seconds
                    used[limit.name] += cost
            told = status.limit
            assert status.remaining == max(0, told.rate.requests - used[told.name])
            assert status.count.name == "WHOLE"

    asyncio.run(play())
