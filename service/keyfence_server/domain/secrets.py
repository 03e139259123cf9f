"""Plaintexts and digests, kept apart by type, and the pepper that joins them.

A key's plaintext exists in the reply that creates it and in the requests that
present it. Everything else knows the digest: HMAC-SHA256 under a pepper that lives
outside the database, so that guesses cannot be tested with a stolen database alone. A fast
hash is right here because keys carry at least 128 bits of entropy; slow hashes are
for passwords (https://www.rfc-editor.org/rfc/rfc2104, RFC 2104, for HMAC).
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

DIGEST_SIZE: Final = 32
MINIMUM_PEPPER_SIZE: Final = 32
# No key has a NUL, so this is the digest of none.
_FINGERPRINTED: Final = "pepper\0"
_SLOW: Final = "slow hash"


class Plaintext:
    """A key's plaintext. Only `reveal` shows it: its `repr` and its text are redacted."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself. Only for the answer to the key's maker, and for digests."""
        return self._text

    def __repr__(self) -> str:
        return "Plaintext(redacted)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plaintext):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        raise TypeError("do not keep a plaintext in a set or dict; keep its digest")

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("do not pickle a plaintext")


@dataclass(frozen=True, slots=True)
class Digest:
    """What is kept of a plaintext.

    Attributes:
        value: 32 bytes.
        pepper_version: which pepper it was made under.
    """

    value: bytes
    pepper_version: int

    def __post_init__(self) -> None:
        if len(self.value) != DIGEST_SIZE:
            raise ValueError(f"a digest has {DIGEST_SIZE} bytes, not {len(self.value)}")

    def __repr__(self) -> str:
        return f"Digest(redacted, pepper_version={self.pepper_version})"


class ForeignHash(Enum):
    """The fast hashes by which keys of other programs can be imported."""

    SHA256 = "sha256"
    SHA512 = "sha512"
    HMAC_SHA256 = "hmac_sha256"

    @property
    def size(self) -> int:
        """Its bytes."""
        return 64 if self is ForeignHash.SHA512 else 32


class KeyedHash:
    """HMAC-SHA256 under one secret (RFC 2104), made to be asked often.

    The two hashes that HMAC is made of have taken in the secret beforehand and are copied
    for each digest. That is the algorithm of `hmac.digest`, in a third of its time: every
    check pays for two digests, and they were the greatest part of it.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, secret: bytes) -> None:
        block = hashlib.sha256().block_size
        if len(secret) > block:
            secret = hashlib.sha256(secret).digest()
        padded = secret.ljust(block, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))

    def __repr__(self) -> str:
        return "KeyedHash(redacted)"

    def of(self, text: str) -> bytes:
        """The digest of a text: 32 bytes."""
        inner = self._inner.copy()
        inner.update(text.encode())
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


class Peppers:
    """The peppers by version: the newest makes digests, all of them find keys.

    Args:
        import_secrets: by keyspace, the secrets under which other programs have made HMACs of
            the keys that were imported into it.

    Raises:
        ValueError: no pepper, a version below 1, or one shorter than 32 bytes.
    """

    __slots__ = ("_foreign", "_import_secrets", "_newest_first", "current_version", "memory_digest")

    def __init__(
        self,
        by_version: Mapping[int, bytes],
        import_secrets: Mapping[str, Sequence[bytes]] = MappingProxyType({}),
    ) -> None:
        if not by_version:
            raise ValueError("at least one pepper is needed")
        for version, pepper in by_version.items():
            if version < 1:
                raise ValueError(f"pepper versions start at 1, not {version}")
            if len(pepper) < MINIMUM_PEPPER_SIZE:
                raise ValueError(
                    f"pepper {version} has {len(pepper)} bytes; "
                    f"at least {MINIMUM_PEPPER_SIZE} are needed"
                )
        self._newest_first = tuple(
            (version, KeyedHash(by_version[version]))
            for version in sorted(by_version, reverse=True)
        )
        # Under secrets of their own: a hash that somebody knows cannot be presented as a key.
        self._foreign = {
            (kind, version): KeyedHash(keyed.of(f"foreign {kind}\0"))
            for kind in (*(one.value for one in ForeignHash), _SLOW)
            for version, keyed in self._newest_first
        }
        self._import_secrets = {
            keyspace: tuple(map(KeyedHash, secrets)) for keyspace, secrets in import_secrets.items()
        }
        self.current_version: int = self._newest_first[0][0]
        self.memory_digest: Callable[[str], bytes] = self._newest_first[0][1].of
        """The value of a plaintext's digest under the newest pepper: what memory knows it by."""

    def __repr__(self) -> str:
        versions = [version for version, _ in self._newest_first]
        return f"Peppers(redacted, versions={versions})"

    def fingerprints(self) -> Mapping[int, bytes]:
        """By version, what tells each pepper from any other, and nothing about it."""
        return {version: keyed.of(_FINGERPRINTED) for version, keyed in self._newest_first}

    def digest(self, text: str) -> Digest:
        """The digest of a plaintext under the newest pepper."""
        return Digest(self.memory_digest(text), self.current_version)

    def digest_under(self, version: int, text: str) -> Digest | None:
        """The digest of a text under the pepper of this version; None if there is none."""
        for known, keyed in self._newest_first:
            if known == version:
                return Digest(keyed.of(text), known)
        return None

    def candidates(self, text: str, keyspaces: Collection[str] = ()) -> tuple[Digest, ...]:
        """The digests that a plaintext may be kept under: that under the newest pepper first, those
        of imported hashes last.

        Args:
            keyspaces: whose keys have the form of the text.
        """
        own = [Digest(keyed.of(text), version) for version, keyed in self._newest_first]
        hashes = [
            (ForeignHash.SHA256, hashlib.sha256(text.encode()).hexdigest()),
            (ForeignHash.SHA512, hashlib.sha512(text.encode()).hexdigest()),
        ]
        hashes += [
            (ForeignHash.HMAC_SHA256, _hmac_of(keyspace, secret.of(text)))
            for keyspace in keyspaces
            for secret in self._import_secrets.get(keyspace, ())
        ]
        foreign = [self._of_foreign_under_all(kind.value, value) for kind, value in hashes]
        return (*own, *itertools.chain.from_iterable(foreign))

    def of_foreign(self, kind: ForeignHash, value: bytes, keyspace: str) -> tuple[Digest, ...]:
        """What is kept of a plaintext of which another program has kept this hash: first what is
        kept from now on, then what may have been kept under older peppers.

        Raises:
            ValueError: no such hash has so many bytes, or the keyspace has no secret for it.
        """
        if len(value) != kind.size:
            raise ValueError(f"{kind.value} has {kind.size} bytes, not {len(value)}")
        if kind is not ForeignHash.HMAC_SHA256:
            return self._of_foreign_under_all(kind.value, value.hex())
        if keyspace not in self._import_secrets:
            raise ValueError(
                f'the server has no import secret of keyspace "{keyspace}", so the key would never '
                "be recognised; add one to KEYFENCE_IMPORT_SECRET_FILE"
            )
        return self._of_foreign_under_all(kind.value, _hmac_of(keyspace, value))

    def of_slow_hash(self, keyspace: str, text: str) -> tuple[Digest, ...]:
        """What stands for a key of which another program has kept this slow hash, in the order of
        `of_foreign`. No plaintext has these digests."""
        return self._of_foreign_under_all(_SLOW, f"{keyspace}\0{text}")

    def is_own(self, kept: Digest, text: str) -> bool:
        """Whether a digest is one that is made here of the plaintext, and no imported hash's."""
        return kept == self.digest_under(kept.pepper_version, text)

    def _of_foreign_under_all(self, kind: str, value: str) -> tuple[Digest, ...]:
        return tuple(
            Digest(self._foreign[kind, version].of(value), version)
            for version, _ in self._newest_first
        )


def _hmac_of(keyspace: str, value: bytes) -> str:
    # With the keyspace: a secret of one keyspace finds no key of another.
    return f"{keyspace}\0{value.hex()}"
