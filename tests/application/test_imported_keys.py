"""Imported keys: found by hashes of other programs at a bounded cost, and by ours afterwards."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

import argon2
import bcrypt
import pytest

from application.authority import ACME, IMPORT_SECRETS, PEPPERS, Authority
from coherence.watched_store import until
from keyfence_server.application.callers import Caller
from keyfence_server.application.import_keys import (
    MAX_WITH_PREFIX,
    Imported,
    KeyToImport,
    SlowHashToImport,
)
from keyfence_server.application.mutations import Effect
from keyfence_server.application.ports import EventFilter, KeyFilter, RecordedEvent, Transaction
from keyfence_server.domain.declarations import (
    BodyDeclaration,
    FormatDeclaration,
    ScopeDeclaration,
)
from keyfence_server.domain.errors import Overloaded
from keyfence_server.domain.formats import ALPHABETS, KeyForm
from keyfence_server.domain.reasons import Reason
from keyfence_server.domain.secrets import ForeignHash, Peppers, Plaintext

FORM: Final = KeyForm("ac_sec_live_", ALPHABETS["base62"], 24, 6, has_checksum=True)
PREFIX_LENGTH: Final = len(FORM.prefix) + 6
TWO_PARTS: Final = KeyForm("", ALPHABETS["base62"], 32, 0, has_checksum=False, has_lookup=True)


def bcrypt_of(text: str) -> str:
    return bcrypt.hashpw(text.encode(), bcrypt.gensalt(4)).decode()


def argon2_of(text: str) -> str:
    return argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(text)


def pbkdf2_of(text: str) -> str:
    value = hashlib.pbkdf2_hmac("sha256", text.encode(), b"salt", 2)
    return f"pbkdf2_sha256$2$salt${base64.b64encode(value).decode()}"


def django_argon2_of(text: str) -> str:
    return f"argon2{argon2_of(text)}"


def django_bcrypt_of(text: str) -> str:
    return f"bcrypt${bcrypt_of(text)}"


def bcrypt_sha256_of(text: str) -> str:
    return f"bcrypt_sha256${bcrypt_of(hashlib.sha256(text.encode()).hexdigest())}"


SLOW: Final = (
    argon2_of,
    bcrypt_of,
    pbkdf2_of,
    django_argon2_of,
    django_bcrypt_of,
    bcrypt_sha256_of,
)


def foreign_key(start: str = "") -> str:
    """A key of another program, with a body that starts so."""
    rest = FORM.length - len(start)
    return KeyForm(FORM.prefix + start, FORM.alphabet, rest, 0, has_checksum=True).mint().reveal()


def slow(text: str, hash_of: Callable[[str], str] = bcrypt_of) -> SlowHashToImport:
    return SlowHashToImport(text[:PREFIX_LENGTH], hash_of(text))


def hmac_of(text: str, secret: bytes) -> tuple[ForeignHash, bytes]:
    return ForeignHash.HMAC_SHA256, hmac.digest(secret, text.encode(), "sha256")


def sha256_of(text: str) -> tuple[ForeignHash, bytes]:
    return ForeignHash.SHA256, hashlib.sha256(text.encode()).digest()


async def import_keys(authority: Authority, secrets: Sequence[Any], **fields: Any) -> Imported:
    wanted = [
        KeyToImport(secret=secret, **{"account_id": "anna", "scopes": ("vps:read",), **fields})
        for secret in secrets
    ]
    return (await authority.import_keys.import_keys(authority.root, "acme", wanted)).value


async def import_one(authority: Authority, secret: Any, **fields: Any) -> None:
    imported = await import_keys(authority, [secret], **fields)
    assert (imported.count, imported.refused) == (1, ())


async def refusal_of(authority: Authority, secret: Any) -> str:
    imported = await import_keys(authority, [secret])
    assert imported.count == 0
    [(_, error)] = imported.refused
    return str(error)


async def rehashes(authority: Authority) -> list[RecordedEvent]:
    async with authority.store.snapshot() as snapshot:
        return await snapshot.list_events(
            EventFilter(action_prefix="key.rehash"), after=None, limit=100
        )


async def is_kept_slowly(authority: Authority, text: str) -> bool:
    async with authority.store.snapshot() as snapshot:
        return bool(await snapshot.find_slow_hashes(["acme"], [text[:PREFIX_LENGTH]], limit=1))


async def test_keys_are_read_by_the_keyspace_as_it_is_when_they_are_imported(
    authority: Authority,
) -> None:
    """They are read before the turn of their mutation comes."""
    may_end = asyncio.Event()

    async def hold(_transaction: Transaction, _caller: Caller) -> Effect[None]:
        await may_end.wait()
        return Effect(None)

    holding = asyncio.create_task(authority.mutations.run(authority.root, hold))
    scopes = (*ACME.scopes, ScopeDeclaration(name="dns:write"))
    applying = asyncio.create_task(authority.declare(ACME, scopes=scopes))
    await until(lambda: authority.mutations.waiting == 1)
    secrets = [sha256_of(foreign_key())]
    importing = asyncio.create_task(import_keys(authority, secrets, scopes=("dns:write",)))
    await until(lambda: authority.mutations.waiting == 2)
    may_end.set()
    await asyncio.gather(holding, applying)
    assert await importing == Imported(1, 0, ())


@pytest.mark.parametrize("hash_of", SLOW)
async def test_a_slow_hash_is_computed_once_and_replaced_by_our_digest(
    authority: Authority, hash_of: Callable[[str], str]
) -> None:
    text = foreign_key()
    await import_one(authority, slow(text, hash_of))
    assert (await authority.check(text, "vps:read")).reason is Reason.OK
    authority.cache.clear()
    verdict = await authority.check(text, "vps:read")
    assert (verdict.reason, authority.hashes.computed) == (Reason.OK, 1)
    assert verdict.facts is not None
    assert verdict.facts.key.display_prefix == text[:PREFIX_LENGTH]
    assert not await is_kept_slowly(authority, text)
    [recorded] = await rehashes(authority)
    assert recorded.event.details["key_ids"] == [verdict.facts.key_id]


async def test_callers_at_once_share_one_slow_hash(authority: Authority) -> None:
    text = foreign_key()
    await import_one(authority, slow(text))
    verdicts = await asyncio.gather(*(authority.check(text) for _ in range(20)))
    assert {one.reason for one in verdicts} == {Reason.OK}
    assert authority.hashes.computed == 1


async def test_a_key_that_was_unknown_is_accepted_once_it_is_imported(authority: Authority) -> None:
    text = foreign_key()
    assert (await authority.check(text)).reason is Reason.KEY_UNKNOWN
    await import_one(authority, slow(text))
    assert (await authority.check(text)).reason is Reason.OK


async def test_a_revoked_key_is_revoked_before_its_first_use_too(authority: Authority) -> None:
    text = foreign_key()
    await import_one(authority, slow(text))
    async with authority.store.snapshot() as snapshot:
        [kept] = await snapshot.find_slow_hashes(["acme"], [text[:PREFIX_LENGTH]], limit=1)
    await authority.revoke(authority.root, kept.key_id)
    assert (await authority.check(text)).reason is Reason.KEY_REVOKED


async def test_a_key_is_never_compared_with_the_same_hash_again(authority: Authority) -> None:
    await import_one(authority, slow(foreign_key("abcdef")))
    stranger = foreign_key("abcdef")
    for _ in range(3):
        assert (await authority.check(stranger)).reason is Reason.KEY_UNKNOWN
        # A key that is made meanwhile makes every server forget what was unknown.
        await authority.make()
    assert authority.hashes.computed == 1


async def test_strangers_cannot_make_the_server_hash_without_end(authority: Authority) -> None:
    text = foreign_key("abcdef")
    await import_one(authority, slow(text))
    authority.hashes.takes = timedelta(seconds=0.5)
    refused = 0
    for _ in range(30):
        try:
            assert (await authority.check(foreign_key("abcdef"))).reason is Reason.KEY_UNKNOWN
        except Overloaded:
            refused += 1
    # The prefix may cost two seconds, and a tenth of each second that passes.
    assert (authority.hashes.computed, refused) == (5, 25)
    # Keys of other prefixes are not held up, and those that match cost nothing.
    for _ in range(10):
        other = foreign_key()
        await import_one(authority, slow(other))
        assert (await authority.check(other)).reason is Reason.OK
    authority.clock.advance(timedelta(seconds=60))
    assert (await authority.check(text)).reason is Reason.OK


async def test_a_caller_is_charged_and_hashes_only_for_keyspaces_that_it_reaches(
    authority: Authority,
) -> None:
    text = foreign_key("abcdef")
    await import_one(authority, slow(text))
    stranger = await authority.operator("other")
    assert (await authority.check(text, by=stranger)).facts is None
    assert authority.hashes.computed == 0
    assert (await authority.check(text)).reason is Reason.OK


async def test_few_keys_have_the_same_prefix(authority: Authority) -> None:
    keys = [foreign_key("abcdef") for _ in range(MAX_WITH_PREFIX + 2)]
    await import_one(authority, slow(keys[0]))
    imported = await import_keys(authority, [slow(key) for key in keys[1:]])
    assert imported.count == MAX_WITH_PREFIX - 1
    assert [index for index, _ in imported.refused] == [MAX_WITH_PREFIX - 1, MAX_WITH_PREFIX]
    assert "give a longer prefix" in str(imported.refused[0][1])
    for key in keys[:MAX_WITH_PREFIX]:
        assert (await authority.check(key)).reason is Reason.OK


async def test_slow_hashes_that_cannot_be_used_are_refused_and_not_repeated(
    authority: Authority,
) -> None:
    text = foreign_key()
    good = bcrypt_of(text)
    for hash_text, why in (
        ("canary", "none of the hashes"),
        ("scrypt$canary$8$1$aa", "none of the hashes"),
        ("$argon2id$canary", "not an Argon2 hash"),
        (argon2.PasswordHasher().hash(text).replace("m=65536", "m=1065536"), "costs too much"),
        (argon2.PasswordHasher().hash(text).replace("t=3", "t=300"), "costs too much"),
        (good.replace("$04$", "$31$"), "costs too much"),
        ("pbkdf2_sha256$90000000$canary$AAAA", "costs too much"),
        ("pbkdf2_sha256$9$canary$AAAA", "no sha256 digest"),
        ("pbkdf2_sha256$9$canary$A", "no base64"),
        ("$2b$04$" + "canary" * 100, "more than 512"),
        ("\udcff", "characters outside ASCII"),
    ):
        said = await refusal_of(authority, SlowHashToImport(text[:PREFIX_LENGTH], hash_text))
        assert why in said, (hash_text, said)
        assert "canary" not in said
    for prefix in ("", "ac", FORM.prefix, text[: PREFIX_LENGTH - 3], text + "x", "ac_xyz_abcdef"):
        assert "characters of the key, at least 4" in await refusal_of(
            authority, SlowHashToImport(prefix, good)
        )


async def test_bcrypt_is_refused_where_it_would_not_read_the_whole_key(
    authority: Authority,
) -> None:
    await authority.declare(
        ACME, format=FormatDeclaration(template="ac_{body}", body=BodyDeclaration(length=80))
    )
    start = "ac_abcdefgh"
    long_key = start + "x" * 72
    said = await refusal_of(authority, SlowHashToImport(start, bcrypt_of(long_key[:72])))
    assert "replace the key" in said
    await import_one(authority, SlowHashToImport(start, bcrypt_sha256_of(long_key)))
    assert (await authority.check(long_key)).reason is Reason.OK


async def test_a_key_is_found_by_an_hmac_of_its_keyspaces_secrets(authority: Authority) -> None:
    for secret in IMPORT_SECRETS["acme"]:
        text = foreign_key()
        await import_one(authority, hmac_of(text, secret))
        assert (await authority.check(text, "vps:read")).reason is Reason.OK
        text = foreign_key()
        await import_one(authority, hmac_of(text, secret + b"?"))
        assert (await authority.check(text)).reason is Reason.KEY_UNKNOWN
    wanted = [KeyToImport(secret=hmac_of(foreign_key(), b"x"), account_id="anna")]
    done = await authority.import_keys.import_keys(authority.root, "other", wanted)
    assert "KEYFENCE_IMPORT_SECRET_FILE" in str(done.value.refused[0][1])


@pytest.mark.parametrize("of", [sha256_of, lambda text: hmac_of(text, IMPORT_SECRETS["acme"][0])])
async def test_a_fast_hash_is_replaced_after_its_first_use(
    authority: Authority, of: Callable[[str], Any]
) -> None:
    text = foreign_key()
    await import_one(authority, of(text))
    assert (await authority.check(text)).reason is Reason.OK
    assert await rehashes(authority) == []
    await authority.imported.flush()
    assert len(await rehashes(authority)) == 1
    verdict = await authority.check(text)
    assert verdict.facts is not None
    kept = (await authority.stored(verdict.facts.key_id)).digest
    assert kept == Peppers(PEPPERS).digest(text)
    await authority.imported.flush()
    assert len(await rehashes(authority)) == 1


async def test_a_revoked_keys_hash_stays(authority: Authority) -> None:
    text = foreign_key()
    await import_one(authority, sha256_of(text))
    async with authority.store.snapshot() as snapshot:
        [key] = await snapshot.list_keys(KeyFilter("acme"), after=None, limit=2)
    await authority.revoke(authority.root, key.key_id)
    assert (await authority.check(text)).reason is Reason.KEY_REVOKED
    await authority.imported.flush()
    assert await rehashes(authority) == []


async def test_the_same_key_is_imported_once(authority: Authority) -> None:
    text = foreign_key()
    imported = await import_keys(authority, [sha256_of(text), sha256_of(text)])
    assert (imported.count, imported.present) == (1, 1)
    imported = await import_keys(authority, [Plaintext(text), slow(text), sha256_of(text)])
    assert (imported.count, imported.present) == (1, 2)


@pytest.mark.parametrize("of", [sha256_of, slow])
async def test_a_file_that_is_imported_again_finds_keys_that_were_used(
    authority: Authority, of: Callable[[str], Any]
) -> None:
    """Otherwise a key that was revoked here would be imported anew."""
    secret = of(text := foreign_key())
    await import_one(authority, secret)
    verdict = await authority.check(text)
    await authority.imported.flush()
    assert len(await rehashes(authority)) == 1
    assert verdict.facts is not None
    await authority.revoke(authority.root, verdict.facts.key_id)
    authority.rotate_pepper()
    imported = await import_keys(authority, [secret])
    assert (imported.count, imported.present) == (0, 1)
    assert (await authority.check(text)).reason is Reason.KEY_REVOKED


async def test_a_hash_and_its_plaintext_in_one_call_are_one_key(authority: Authority) -> None:
    text = foreign_key()
    imported = await import_keys(authority, [Plaintext(text), sha256_of(text)])
    assert (imported.count, imported.present) == (1, 1)


async def test_keys_of_two_parts_are_imported(authority: Authority) -> None:
    await authority.declare(
        ACME, format=FormatDeclaration(template="{lookup}.{body}", body=BodyDeclaration(length=32))
    )
    await authority.declare(ACME)
    key = TWO_PARTS.mint().reveal()
    await import_one(authority, SlowHashToImport(key[:8], pbkdf2_of(key)))
    assert (await authority.check(key, "vps:read")).reason is Reason.OK
    fast = TWO_PARTS.mint().reveal()
    await import_one(authority, sha256_of(fast))
    assert (await authority.check(fast)).reason is Reason.OK
    for malformed in (fast[:-1], fast.replace(".", "_"), f"x{fast}", fast.replace(".", "..")):
        assert (await authority.check(malformed)).reason is Reason.CREDENTIAL_MALFORMED
