"""Finds the facts about a presented session token.

The signature is checked first, so that a made-up token costs no look-up in memory or in the store.
Then the token must agree with the session's record in every field that both have.
"""

from __future__ import annotations

from typing import Final

from keyfence_server.application.ports import FactSource, SessionTokens
from keyfence_server.domain.errors import Unauthenticated
from keyfence_server.domain.sessions import SessionFacts

# A signed token has three parts.
_DOTS: Final = 2


class PresentedSessions:
    """Looks up sessions by their tokens.

    Args:
        tokens: None where no session can be read, as in a sidecar: tokens are then refused
            with an error that says so.
    """

    def __init__(self, source: FactSource, tokens: SessionTokens | None) -> None:
        self._source = source
        self._tokens = tokens

    def looks_like_one(self, text: str) -> bool:
        """Whether a credential has the form of a session's token."""
        if self._tokens is None:
            # No key begins like this, since it is no prefix of a form.
            return text.startswith("eyJ") and text.count(".") == _DOTS
        return self._tokens.looks_like_one(text)

    async def find(self, token: str) -> SessionFacts | None:
        """What is known of the session; None for a token that points to none.

        Raises:
            Unauthenticated: sessions are not known here.
            StoreUnavailable: it is not in memory, and the store cannot be asked.
        """
        if self._tokens is None:
            raise Unauthenticated(
                "a sidecar answers for keys alone and does not know sessions; call the server "
                "with this token",
                cause="SESSION_NOT_KNOWN_HERE",
            )
        claims = self._tokens.read(token)
        if claims is None:
            return None
        facts = await self._source.find_session(claims.session_id)
        if facts is None:
            return None
        session = facts.session
        expires_at = int(session.expire_time.timestamp())
        said = (claims.keyspace, claims.account_id, claims.expires_at)
        return facts if said == (session.keyspace, session.account_id, expires_at) else None
