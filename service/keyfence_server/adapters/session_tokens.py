"""Sessions' tokens: JWTs signed with Ed25519, and with nothing else.

There is one algorithm and one type. A token with another algorithm or type is refused
(RFC 8725), and so is a token with a missing header or claim. This module does not check
the expiry; the session's record has it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.types import Options

from keyfence_server.application.ports import SessionClaims
from keyfence_server.domain.accounts import AccountId
from keyfence_server.domain.secrets import Plaintext
from keyfence_server.domain.sessions import Session, SessionId

ALGORITHM: Final = "EdDSA"
TYPE: Final = "keyfence-session+jwt"
SEED_SIZE: Final = 32

_MAX_LENGTH: Final = 1024
# No key has a dot, and every JSON object in base64url starts like this.
_FORM: Final = re.compile(r"eyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_CLAIMS: Final = frozenset({"iss", "aud", "sub", "jti", "iat", "exp"})
_CHECKED_BY_THE_RECORD: Final[Options] = {
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
    "verify_aud": False,
    "verify_iss": False,
}


class SessionKeys:
    """The signing keys by version: the newest signs, all of them verify.

    Args:
        seeds: of Ed25519, 32 bytes each.

    Raises:
        ValueError: no key, a version below 1, or a seed of the wrong size.
    """

    def __init__(self, seeds: Mapping[int, bytes]) -> None:
        if not seeds:
            raise ValueError("at least one key is needed")
        for version, seed in seeds.items():
            if version < 1:
                raise ValueError(f"versions start at 1, not {version}")
            if len(seed) != SEED_SIZE:
                raise ValueError(f"key {version} has {len(seed)} bytes; {SEED_SIZE} are needed")
        by_version = {
            version: Ed25519PrivateKey.from_private_bytes(seed) for version, seed in seeds.items()
        }
        self.current_version = max(by_version)
        self.signing_key = by_version[self.current_version]
        self.verifying_keys = {
            str(version): key.public_key() for version, key in by_version.items()
        }

    def __repr__(self) -> str:
        return f"SessionKeys(redacted, versions={sorted(self.verifying_keys)})"


class JwtSessionTokens:
    """Implements the `SessionTokens` port."""

    def __init__(self, keys: SessionKeys) -> None:
        self._keys = keys

    def sign(self, session: Session) -> Plaintext:
        claims = {
            "iss": session.keyspace,
            "aud": session.keyspace,
            "sub": session.account_id,
            "jti": session.session_id,
            "iat": int(session.create_time.astimezone(UTC).timestamp()),
            "exp": int(session.expire_time.astimezone(UTC).timestamp()),
        }
        header = {"typ": TYPE, "kid": str(self._keys.current_version)}
        return Plaintext(
            jwt.encode(claims, self._keys.signing_key, algorithm=ALGORITHM, headers=header)
        )

    def looks_like_one(self, text: str) -> bool:
        return text.startswith("eyJ") and _FORM.fullmatch(text) is not None

    def read(self, text: str) -> SessionClaims | None:
        if len(text) > _MAX_LENGTH or not self.looks_like_one(text):
            return None
        try:
            header = jwt.get_unverified_header(text)
            kid = header.get("kid")
            key = self._keys.verifying_keys.get(kid) if isinstance(kid, str) else None
            if key is None or header != {"alg": ALGORITHM, "typ": TYPE, "kid": kid}:
                return None
            claims = jwt.decode(text, key, [ALGORITHM], options=_CHECKED_BY_THE_RECORD)
        except jwt.InvalidTokenError:
            return None
        return _claims(claims)


def _claims(claims: Mapping[str, object]) -> SessionClaims | None:
    if claims.keys() != _CLAIMS or claims["iss"] != claims["aud"]:
        return None
    keyspace, account_id, session_id = (claims[name] for name in ("aud", "sub", "jti"))
    expires_at = claims["exp"]
    if not (
        isinstance(keyspace, str)
        and isinstance(account_id, str)
        and isinstance(session_id, str)
        and isinstance(expires_at, int)
    ):
        return None
    return SessionClaims(SessionId(session_id), AccountId(account_id), keyspace, expires_at)
