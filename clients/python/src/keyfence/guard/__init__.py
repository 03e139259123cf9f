"""Interceptors that enforce `required_scope` in gRPC services of your own.

Annotate your RPCs with `option (keyfence.v1.required_scope) = "..."`, add `Guard` to a
`grpc.server` or `AsyncGuard` to a `grpc.aio.server`, and every call is checked before its
handler runs. An RPC that declares nothing is refused. The handler finds out who called
with `current_principal()`.
"""

from keyfence.guard._aio import AsyncGuard
from keyfence.guard._current import current_principal, find_principal
from keyfence.guard._policy import peer_address
from keyfence.guard._threads import Guard

__all__ = ["AsyncGuard", "Guard", "current_principal", "find_principal", "peer_address"]
