"""What becomes of a key, and of those that hang on it."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest

from keyfence_server.domain.addresses import parse_address
from keyfence_server.domain.errors import Precondition
from keyfence_server.domain.facts import NEVER, compile_facts
from keyfence_server.domain.keys import Key, KeyState, state_of
from keyfence_server.domain.reasons import Reason
from support.builders import make_key, make_keyspace
from support.clock import START

LATER = START + timedelta(hours=1)
STATES = tuple(KeyState)


def in_state(state: KeyState) -> Key:
    return make_key(state=state, revoke_time=START if state is KeyState.REVOKED else None)


def test_a_key_is_disabled_and_enabled_again() -> None:
    disabled = make_key().disabled(LATER, by_operator=True)
    assert (disabled.state, disabled.update_time) == (KeyState.DISABLED, LATER)
    assert disabled.enabled(LATER, by_operator=True).state is KeyState.ACTIVE


def test_to_revoke_is_final() -> None:
    """Otherwise a caller that may edit a key could undo its revocation."""
    revoked = make_key().revoked(LATER)
    assert (revoked.state, revoked.revoke_time) == (KeyState.REVOKED, LATER)
    for change in (
        lambda: revoked.enabled(LATER, by_operator=True),
        lambda: revoked.disabled(LATER, by_operator=True),
        lambda: revoked.edited(LATER, display_name="x"),
        revoked.require_not_revoked,
    ):
        with pytest.raises(Precondition) as caught:
            change()
        assert caught.value.reason == "KEY_IS_REVOKED"


def test_to_revoke_again_leaves_the_first_time_standing() -> None:
    revoked = make_key().revoked(START)
    assert revoked.revoked(LATER) is revoked


def test_a_key_is_expired_from_the_moment_on() -> None:
    key = make_key(expire_time=LATER)
    facts = compile_facts([key], make_keyspace())
    just_before = LATER - timedelta(microseconds=1)
    assert not key.is_expired(just_before)
    assert facts.reason_at(just_before.timestamp(), None) is Reason.OK
    assert key.is_expired(LATER)
    assert facts.reason_at(LATER.timestamp(), None) is Reason.KEY_EXPIRED
    assert not make_key().is_expired(LATER)
    assert compile_facts([make_key()], make_keyspace()).expires_at == NEVER


@pytest.mark.parametrize("states", list(itertools.product(STATES, repeat=3)), ids=str)
def test_a_key_is_what_the_worst_of_its_line_is(states: tuple[KeyState, ...]) -> None:
    """A delegated key would otherwise outlive the revocation of its parent."""
    worst = max(states, key=STATES.index)
    assert state_of([in_state(state) for state in states]) is worst


def test_the_reasons_come_in_their_order() -> None:
    """Each fault is added to the ones that come after it in the order, and takes their place."""
    keyspace = make_keyspace()
    now = LATER.timestamp()
    outside = parse_address("192.0.2.1")
    key = make_key(allowed_addresses=("10.0.0.0/8",))
    expected = [
        (key, Reason.ADDRESS_NOT_ALLOWED),
        (key := key.disabled(START, by_operator=True), Reason.KEY_DISABLED),
        (key := key.edited(START, expire_time=START), Reason.KEY_EXPIRED),
        (key.revoked(START), Reason.KEY_REVOKED),
    ]
    for one, reason in expected:
        assert compile_facts([one], keyspace).reason_at(now, outside) is reason
        assert compile_facts([make_key(), one], keyspace).reason_at(now, outside) is reason


def test_every_list_of_the_line_must_have_the_address() -> None:
    facts = compile_facts(
        [
            make_key(allowed_addresses=("10.1.0.0/16", "2001:db8::/32")),
            make_key(),
            make_key(allowed_addresses=("10.0.0.0/8",)),
        ],
        make_keyspace(),
    )
    now = START.timestamp()
    assert facts.reason_at(now, parse_address("10.1.2.3")) is Reason.OK
    assert facts.reason_at(now, parse_address("::ffff:10.1.2.3")) is Reason.OK
    for address in ("10.2.0.1", "2001:db8::1", "192.0.2.1"):
        assert facts.reason_at(now, parse_address(address)) is Reason.ADDRESS_NOT_ALLOWED
    assert facts.reason_at(now, None) is Reason.ADDRESS_NOT_ALLOWED


def test_the_first_of_the_line_to_expire_ends_it() -> None:
    lineage = [
        make_key(expire_time=START + timedelta(days=2)),
        make_key(expire_time=START + timedelta(days=1)),
        make_key(),
    ]
    facts = compile_facts(lineage, make_keyspace())
    assert facts.expires_at == (START + timedelta(days=1)).timestamp()
