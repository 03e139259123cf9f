"""From a token that somebody presented to what is known of its session.

The signature comes first, so that nothing is asked of the store, nor of memory, about
a token that was made up. Then the record counts: a token must agree with it in all
that both of them say.
"""

from __future__ import annotations

from keyfence_server.application.ports import FactSource, SessionClaims, SessionTokens
from keyfence_server.domain.sessions import SessionFacts


class PresentedSessions:
    """Looks up sessions by their tokens.

    Args:
        tokens: None where no session can be read: a token then has no form of its own.
    """

    def __init__(self, source: FactSource, tokens: SessionTokens | None) -> None:
        self._source = source
        self._tokens = tokens

    def looks_like_one(self, text: str) -> bool:
        """Whether a credential has the form of a session's token."""
        return self._tokens is not None and self._tokens.looks_like_one(text)

    async def find(self, token: str) -> SessionFacts | None:
        """What is known of the session; None for a token that points to none.

        Raises:
            StoreUnavailable: it is not in memory, and the store cannot be asked.
        """
        claims = self._tokens.read(token) if self._tokens is not None else None
        if claims is None:
            return None
        facts = await self._source.find_session(claims.session_id)
        return facts if facts is not None and _agrees(claims, facts) else None


def _agrees(claims: SessionClaims, facts: SessionFacts) -> bool:
    session = facts.session
    return (
        claims.keyspace == session.keyspace
        and claims.account_id == session.account_id
        and claims.expires_at == int(session.expire_time.timestamp())
    )
