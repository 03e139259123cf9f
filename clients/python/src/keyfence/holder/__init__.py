"""The parts of a holder: a program that answers checks from memory under a lease.

Servers, sidecars and the clients' caches are built from these parts, and another kind of holder
can be. `docs/holder-protocol.md` specifies what they do.

- `lease`: how long memory may be used, and what that depends on. No I/O and no clock.
- `fills`: which loaded facts may be remembered. No I/O and no clock.
- `clock`: the clock by which leases are measured.
- `session`: the stream to the grantor, with renewals, changes and acknowledgements.
- `dial`: connections of a holder to its grantors.
- `grpc_stream`: the stream over `grpc.aio`.
- `facts`: what a client remembers of a key.
- `memory`: the keys that a client remembers.
"""

from keyfence.holder.fills import Fill, Fills
from keyfence.holder.lease import HolderLease
from keyfence.holder.memory import Memory
from keyfence.holder.session import (
    Clock,
    HolderSession,
    Listener,
    Refused,
    Stream,
    StreamBroken,
    Unreachable,
)

__all__ = [
    "Clock",
    "Fill",
    "Fills",
    "HolderLease",
    "HolderSession",
    "Listener",
    "Memory",
    "Refused",
    "Stream",
    "StreamBroken",
    "Unreachable",
]
