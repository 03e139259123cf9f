"""Sessions' tokens: what is read is what was signed here, or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfence_server.adapters.session_tokens import JwtSessionTokens, SessionKeys
from support.builders import make_account, make_session

SEEDS = {1: b"a" * 32}
TOKENS = JwtSessionTokens(SessionKeys(SEEDS))
SESSION = make_session(make_account())
TOKEN = TOKENS.sign(SESSION).reveal()


def test_what_was_signed_is_read() -> None:
    claims = TOKENS.read(TOKEN)
    assert claims is not None
    assert (claims.session_id, claims.account_id, claims.keyspace) == (
        SESSION.session_id,
        SESSION.account_id,
        SESSION.keyspace,
    )
    assert claims.expires_at == int(SESSION.expire_time.timestamp())


def test_keys_are_rotated_by_version() -> None:
    both = JwtSessionTokens(SessionKeys({**SEEDS, 2: b"b" * 32}))
    assert both.read(TOKEN) is not None
    newer = both.sign(SESSION).reveal()
    assert TOKENS.read(newer) is None
    without_the_old = JwtSessionTokens(SessionKeys({2: b"b" * 32}))
    assert without_the_old.read(TOKEN) is None
    assert without_the_old.read(newer) is not None


@given(st.text(max_size=200))
def test_nothing_else_is_read_and_nothing_is_a_fault(text: str) -> None:
    for made_up in (text, f"eyJ{text}", f"eyJ{text}.eyJ{text}.{text}", f"{TOKEN}.{text}"):
        assert TOKENS.read(made_up) is None


@given(st.integers(0, len(TOKEN) - 1), st.sampled_from("ABCxyz019-_."))
def test_a_token_with_one_other_character_is_none(place: int, character: str) -> None:
    """Save for the last one, of whose bits base64 leaves some unused."""
    changed = TOKEN[:place] + character + TOKEN[place + 1 :]
    if changed != TOKEN and place < len(TOKEN) - 1:
        assert TOKENS.read(changed) is None


@pytest.mark.parametrize("seeds", [{}, {0: b"a" * 32}, {1: b"a" * 31}, {1: b"a" * 33}], ids=str)
def test_keys_that_are_none_are_refused(seeds: dict[int, bytes]) -> None:
    with pytest.raises(ValueError, match=r"."):
        SessionKeys(seeds)


def test_keys_are_redacted_in_every_text() -> None:
    assert "aaaa" not in repr(SessionKeys(SEEDS))
