"""What a guard knows of a request under its middleware."""

from __future__ import annotations

import secrets
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from keyfence.asgi._credentials import Presented
from keyfence.results import Principal, RateLimitStatus

Scope = MutableMapping[str, Any]

STATE: Final = "keyfence"
"""Where the scope of ASGI has the `GuardedRequest`."""


@dataclass(slots=True)
class GuardedRequest:
    """A request under the guard's middleware.

    Attributes:
        presented: its credential.
        client_address: None if it is not known.
        request_id: what answers and logs call the request.
        principal: whose key it is, once the request was admitted.
        rate_limit: where the key's rate limit stands, once the request was admitted.
    """

    presented: Presented
    client_address: str | None
    request_id: str
    principal: Principal | None = None
    rate_limit: RateLimitStatus | None = None

    def id_header(self) -> Sequence[tuple[str, str]]:
        """The header that tells the client the request's id."""
        return (("x-request-id", self.request_id),)


def peer_address(scope: Scope) -> str | None:
    """The address at the other end of the connection; None if it has none.

    Behind a proxy this is the proxy's: give the guard a function that knows better, or let
    the server of the application read the proxy's headers.
    """
    client = scope.get("client")
    return str(client[0]) if client else None


def new_request_id(_scope: Scope) -> str:
    """An id that no client has chosen, such as "req_9f86d081884c7d65"."""
    return f"req_{secrets.token_hex(8)}"
