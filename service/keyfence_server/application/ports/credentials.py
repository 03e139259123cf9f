"""Passwords and sessions' tokens."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from keyfence_server.domain.accounts import AccountId, PasswordHash
from keyfence_server.domain.secrets import Plaintext
from keyfence_server.domain.sessions import Session, SessionId


class PasswordHashes(Protocol):
    """Hashes passwords, slowly on purpose, and apart from everything that must not wait."""

    def turn(self) -> AbstractContextManager[None]:
        """A place among those whose passwords are hashed, for as long as it is held. There
        are not many. Raises `Overloaded` when all are taken."""

    async def hash(self, password: Plaintext) -> PasswordHash:
        """What to keep of a password. To be called in a turn."""

    async def verify(self, password: Plaintext, kept: PasswordHash | None) -> bool:
        """Whether this is the password that was kept. To be called in a turn.

        Args:
            kept: None: there is none, which takes the same work to find out.
        """

    def is_outdated(self, kept: PasswordHash) -> bool:
        """Whether the password would be kept in another way today."""


class SlowHashes(Protocol):
    """Knows the slow hashes by which keys of other programs can be imported."""

    def require_usable(self, text: str, longest_key: int) -> None:
        """Raises `ValueError`, which says what is wrong and does not repeat the hash, unless keys
        can be verified by it at a bounded cost.

        Args:
            longest_key: the most characters that a presented key can have.
        """

    def matches(self, text: str, key: str) -> bool:
        """Whether a hash is of this key. Takes up to a second, and touches nothing that changes:
        for a thread."""


@dataclass(frozen=True, slots=True)
class SessionClaims:
    """What a session's token says. Its signature was good; nothing else is checked yet.

    Attributes:
        expires_at: seconds since the epoch, whole.
    """

    session_id: SessionId
    account_id: AccountId
    keyspace: str
    expires_at: int


class SessionTokens(Protocol):
    """Signs sessions, and reads what it has signed."""

    def sign(self, session: Session) -> Plaintext:
        """The token for the session's holder."""

    def looks_like_one(self, text: str) -> bool:
        """Whether a text has the form of a token, which no key can have."""

    def read(self, text: str) -> SessionClaims | None:
        """What a token says; None if it was not signed here, in every respect."""
