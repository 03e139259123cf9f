"""Verifies keys by the slow hashes of other programs: Argon2, bcrypt and PBKDF2.

What a hash may cost is bounded when it is imported: about a second of one core and 128 MiB at most.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final

import argon2

_MAX_LENGTH: Final = 512
_MAX_MEMORY_KIB: Final = 128 * 1024
_MAX_MEMORY_PASSES: Final = 512 * 1024
_MAX_LANES: Final = 4
_MAX_BCRYPT_COST: Final = 13
_MAX_ITERATIONS: Final = 2_000_000
_BCRYPT_READS: Final = 72
"""Of a longer text bcrypt ignores the rest."""

# Before the hashes themselves, Django names its hasher.
_DJANGO: Final = re.compile(r"argon2(?=\$)|bcrypt(?:_sha256)?\$(?=\$)")
_BCRYPT: Final = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
_PBKDF2: Final = re.compile(
    r"pbkdf2_(sha1|sha256)\$([0-9]{1,8})\$([!-#%-~]{1,128})\$([A-Za-z0-9+/=]+)"
)

_SCHEMES: Final = (
    "is none of the hashes that can be imported: Argon2 ($argon2id$…), bcrypt ($2b$…), and what "
    "Django writes for these and for PBKDF2 (pbkdf2_sha256$…)"
)


class SlowHashesHere:
    """Implements the `SlowHashes` port."""

    def require_usable(self, text: str, longest_key: int) -> None:
        _parse(text).require_usable(longest_key)

    def matches(self, text: str, key: str) -> bool:
        return _parse(text).matches(key)


@dataclass(frozen=True, slots=True)
class _Argon2:
    text: str

    def require_usable(self, _longest_key: int) -> None:
        parameters = argon2.extract_parameters(self.text)
        memory = parameters.memory_cost
        if (
            memory > _MAX_MEMORY_KIB
            or memory * parameters.time_cost > _MAX_MEMORY_PASSES
            or parameters.parallelism > _MAX_LANES
        ):
            raise ValueError(
                f"costs too much: at most {_MAX_MEMORY_KIB} KiB of memory, "
                f"{_MAX_MEMORY_PASSES} KiB in all passes together, and {_MAX_LANES} lanes"
            )

    def matches(self, key: str) -> bool:
        try:
            return argon2.PasswordHasher().verify(self.text, key)
        except argon2.exceptions.VerificationError:
            return False


@dataclass(frozen=True, slots=True)
class _Bcrypt:
    text: str
    cost: int
    of_sha256: bool

    def require_usable(self, longest_key: int) -> None:
        if not 4 <= self.cost <= _MAX_BCRYPT_COST:
            raise ValueError(f"costs too much: a bcrypt cost of 4 to {_MAX_BCRYPT_COST} is allowed")
        if longest_key > _BCRYPT_READS and not self.of_sha256:
            raise ValueError(
                f"covers only the first {_BCRYPT_READS} characters of a key, and the keyspace's "
                f"keys have {longest_key}; replace the key"
            )

    def matches(self, key: str) -> bool:
        # Few servers have such keys, and the others need not load it.
        import bcrypt  # noqa: PLC0415

        read = key.encode()
        if self.of_sha256:
            read = hashlib.sha256(read).hexdigest().encode()
        if len(read) > _BCRYPT_READS:
            return False
        try:
            return bcrypt.checkpw(read, self.text.encode())
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class _Pbkdf2:
    digest: str
    iterations: int
    salt: str
    value: bytes

    def require_usable(self, _longest_key: int) -> None:
        if not 1 <= self.iterations <= _MAX_ITERATIONS:
            raise ValueError(f"costs too much: at most {_MAX_ITERATIONS} iterations are allowed")
        if len(self.value) != hashlib.new(self.digest).digest_size:
            raise ValueError(f"has no {self.digest} digest at its end")

    def matches(self, key: str) -> bool:
        made = hashlib.pbkdf2_hmac(self.digest, key.encode(), self.salt.encode(), self.iterations)
        return hmac.compare_digest(made, self.value)


def _parse(text: str) -> _Argon2 | _Bcrypt | _Pbkdf2:
    """What a hash says. Raises `ValueError` without repeating it."""
    if len(text) > _MAX_LENGTH or not text.isascii():
        raise ValueError(f"has more than {_MAX_LENGTH} characters, or characters outside ASCII")
    hasher = _DJANGO.match(text)
    written = text[hasher.end() :] if hasher else text
    if found := _BCRYPT.fullmatch(written):
        of_sha256 = hasher is not None and hasher[0].startswith("bcrypt_sha256")
        return _Bcrypt(written, int(found[1]), of_sha256)
    if found := _PBKDF2.fullmatch(written):
        try:
            value = base64.b64decode(found[4], validate=True)
        except binascii.Error:
            raise ValueError("has no base64 at its end") from None
        return _Pbkdf2(found[1], int(found[2]), found[3], value)
    if written.startswith("$argon2"):
        try:
            argon2.extract_parameters(written)
        except argon2.exceptions.InvalidHashError:
            raise ValueError("is not an Argon2 hash with all its parameters") from None
        return _Argon2(written)
    raise ValueError(_SCHEMES)
