"""Password hashing: what is kept, what renews it, and what a flood of log-ins can take."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator

import pytest

from keyfence_server.adapters.passwords import Argon2Passwords
from keyfence_server.domain.accounts import PasswordHash
from keyfence_server.domain.errors import Overloaded
from keyfence_server.domain.secrets import Peppers, Plaintext

PEPPERS = {1: b"a" * 32}
PASSWORD = Plaintext("correct horse battery")


@pytest.fixture
def made() -> Iterator[list[Argon2Passwords]]:
    """Those that a test made, to be closed."""
    hashes: list[Argon2Passwords] = []
    yield hashes
    for one in hashes:
        one.close()


def hashing(
    made: list[Argon2Passwords], peppers: dict[int, bytes] | None = None, **fields: int
) -> Argon2Passwords:
    parameters = {"memory_mib": 8, "passes": 1, **fields}
    one = Argon2Passwords(Peppers(peppers or PEPPERS), **parameters)
    made.append(one)
    return one


async def test_a_password_is_recognised_and_no_other(made: list[Argon2Passwords]) -> None:
    hashes = hashing(made)
    kept = await hashes.hash(PASSWORD)
    assert kept.text.startswith("$argon2id$v=19$m=8192,t=1,p=1$")
    assert await hashes.verify(PASSWORD, kept)
    assert not await hashes.verify(Plaintext("correct horse batterY"), kept)
    assert not await hashes.verify(Plaintext(""), kept)


async def test_one_password_is_never_kept_alike_twice(made: list[Argon2Passwords]) -> None:
    hashes = hashing(made)
    assert await hashes.hash(PASSWORD) != await hashes.hash(PASSWORD)


async def test_no_password_matches_without_an_account(made: list[Argon2Passwords]) -> None:
    hashes = hashing(made)
    for text in ("", "x", PASSWORD.reveal()):
        assert not await hashes.verify(Plaintext(text), None)


async def test_a_password_without_an_account_costs_as_much_as_one_with(
    made: list[Argon2Passwords], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work must not tell an unknown address from a wrong password."""
    hashes = hashing(made)
    kept = await hashes.hash(PASSWORD)
    worked: list[list[str | int]] = []
    matches = hashes._matches

    def noting(text: str, digest: bytes) -> bool:
        *costs, salt, tag = text.split("$")
        worked.append([*costs, len(salt), len(tag)])
        return matches(text, digest)

    monkeypatch.setattr(hashes, "_matches", noting)
    await hashes.verify(Plaintext("wrong"), kept)
    await hashes.verify(Plaintext("wrong"), None)
    assert len(worked) == 2
    assert worked[0] == worked[1]


async def test_passwords_cannot_be_tried_with_a_stolen_database(
    made: list[Argon2Passwords],
) -> None:
    """Without the pepper the right password is wrong."""
    kept = await hashing(made).hash(PASSWORD)
    assert not await hashing(made, {1: b"b" * 32}).verify(PASSWORD, kept)


async def test_what_would_be_kept_otherwise_today_is_outdated(made: list[Argon2Passwords]) -> None:
    kept = await hashing(made).hash(PASSWORD)
    assert not hashing(made).is_outdated(kept)
    stronger = hashing(made, passes=2)
    assert stronger.is_outdated(kept)
    assert await stronger.verify(PASSWORD, kept)
    newer = hashing(made, {**PEPPERS, 2: b"c" * 32})
    assert newer.is_outdated(kept)
    assert await newer.verify(PASSWORD, kept)
    assert (await newer.hash(PASSWORD)).pepper_version == 2


async def test_a_pepper_that_is_gone_makes_a_no_and_no_fault(made: list[Argon2Passwords]) -> None:
    kept = await hashing(made).hash(PASSWORD)
    gone = PasswordHash(kept.text, 9)
    assert not await hashing(made).verify(PASSWORD, gone)


async def test_the_places_are_few_and_come_free_again(made: list[Argon2Passwords]) -> None:
    hashes = hashing(made, waiting=2)
    with hashes.turn(), hashes.turn(), pytest.raises(Overloaded), hashes.turn():
        raise AssertionError("there were only two")
    with hashes.turn(), hashes.turn():
        pass


async def test_hashing_yields_to_everything_else(made: list[Argon2Passwords]) -> None:
    """On Linux, where threads have priorities of their own, of which 19 is the lowest."""
    hashes = hashing(made)
    loop = asyncio.get_running_loop()
    niceness = await loop.run_in_executor(hashes._threads, os.nice, 0)
    assert niceness == min(19, os.nice(0) + (10 if sys.platform == "linux" else 0))
