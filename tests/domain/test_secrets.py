"""Plaintexts that are redacted in every text, and digests under peppers."""

from __future__ import annotations

import copy
import hashlib
import hmac
import pickle
import traceback

import pytest

from keyfence_server.domain.secrets import Digest, ForeignHash, Peppers, Plaintext

CANARY = "kf_live_CANARYcanaryCANARY"
PEPPER = b"canary-pepper-of-thirty-two-bytes"


@pytest.mark.parametrize("show", [repr, str, "{}".format, "%s".__mod__, lambda one: f"{one!r:>40}"])
def test_a_plaintext_and_a_digest_do_not_show_themselves(show: object) -> None:
    """A log line, an f-string or an exception's arguments would otherwise carry the key."""
    assert callable(show)
    digest = Peppers({1: PEPPER}).digest(CANARY)
    assert "CANARY" not in show(Plaintext(CANARY))
    assert digest.value.hex() not in show(digest)
    assert repr(digest.value) not in show(digest)
    assert "canary" not in show(Peppers({1: PEPPER}))


def test_an_exception_that_carries_a_plaintext_does_not_print_it() -> None:
    error = ValueError("refused", Plaintext(CANARY), [Plaintext(CANARY)])
    assert "CANARY" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    "take_along", [pickle.dumps, copy.copy, copy.deepcopy, hash, vars], ids=lambda one: one.__name__
)
def test_a_plaintext_is_not_kept_by_accident(take_along: object) -> None:
    assert callable(take_along)
    with pytest.raises(TypeError) as caught:
        take_along(Plaintext(CANARY))
    assert "CANARY" not in str(caught.value)


def test_peppers_are_not_pickled() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Peppers({1: PEPPER}))


def test_plaintexts_are_equal_by_their_text_alone() -> None:
    assert Plaintext(CANARY) == Plaintext(CANARY)
    assert Plaintext(CANARY) != Plaintext(CANARY + "x")
    assert Plaintext(CANARY) != CANARY
    assert Plaintext(CANARY).reveal() == CANARY


def test_a_digest_is_the_hmac_under_the_newest_pepper() -> None:
    old, new = b"o" * 32, b"n" * 40
    peppers = Peppers({1: old, 7: new})
    assert peppers.current_version == 7
    expected = hmac.new(new, CANARY.encode(), hashlib.sha256).digest()
    assert peppers.digest(CANARY) == Digest(expected, 7)
    assert peppers.digest(CANARY) == peppers.digest(CANARY)


def test_a_key_is_looked_for_under_every_pepper_the_newest_first() -> None:
    """A key made before the pepper was changed would otherwise be lost with it."""
    old, new = Peppers({1: b"o" * 32}), Peppers({1: b"o" * 32, 2: b"n" * 32})
    candidates = new.candidates(CANARY)
    assert [one.pepper_version for one in candidates[:2]] == [2, 1]
    assert candidates[0] == new.digest(CANARY)
    assert candidates[1] == old.digest(CANARY)


@pytest.mark.parametrize("kind", ForeignHash)
def test_a_key_is_found_by_what_another_program_kept_of_it(kind: ForeignHash) -> None:
    """Under every pepper, and by the key alone: the hash is no key."""
    secrets = {"shop": [b"retired", b"secret"], "other": [b"another"]}
    old = Peppers({1: b"o" * 32}, secrets)
    new = Peppers({1: b"o" * 32, 2: b"n" * 32}, secrets)
    if kind is ForeignHash.HMAC_SHA256:
        value = hmac.digest(b"secret", CANARY.encode(), "sha256")
    else:
        value = hashlib.new(kind.value, CANARY.encode()).digest()
    assert new.of_foreign(kind, value, "shop")[1:] == old.of_foreign(kind, value, "shop")
    for kept in new.of_foreign(kind, value, "shop"):
        assert kept in new.candidates(CANARY, ["other", "shop"])
        assert kept not in new.candidates(value.hex(), ["shop"])
        assert kept.value not in (value, new.digest(value.hex()).value)
        is_of_keyspace = kept not in new.candidates(CANARY, ["other"])
        assert is_of_keyspace is (kind is ForeignHash.HMAC_SHA256)
        assert not new.is_own(kept, CANARY)
    with pytest.raises(ValueError, match="bytes"):
        new.of_foreign(kind, value[1:], "shop")


def test_an_hmac_needs_a_secret_of_its_keyspace() -> None:
    peppers = Peppers({1: b"o" * 32}, {"shop": [b"secret"]})
    with pytest.raises(ValueError, match="no import secret of keyspace"):
        peppers.of_foreign(ForeignHash.HMAC_SHA256, bytes(32), "other")


@pytest.mark.parametrize(
    "by_version", [{}, {0: b"x" * 32}, {-1: b"x" * 32}, {1: b"x" * 31}, {1: b"x" * 32, 2: b""}]
)
def test_weak_or_misnumbered_peppers_are_refused(by_version: dict[int, bytes]) -> None:
    with pytest.raises(ValueError, match="pepper"):
        Peppers(by_version)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_digest_has_32_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Digest(b"x" * size, 1)
