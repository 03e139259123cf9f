"""A guard for HTTP services: ASGI middleware that no framework is needed for.

`GuardMiddleware` stands in front of an application, and a `Guard` decides. Where credentials
may be and how denials look is what the keyspace declares in its section `http`.
`keyfence.fastapi` builds on it.
"""

from keyfence.asgi._answers import Answer, Denied, rfc3339
from keyfence.asgi._guard import Guard
from keyfence.asgi._middleware import GuardMiddleware
from keyfence.asgi._requests import GuardedRequest, new_request_id, peer_address

__all__ = [
    "Answer",
    "Denied",
    "Guard",
    "GuardMiddleware",
    "GuardedRequest",
    "new_request_id",
    "peer_address",
    "rfc3339",
]
